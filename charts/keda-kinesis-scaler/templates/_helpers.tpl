{{- define "scaler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "scaler.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "scaler.selectorLabels" -}}
app.kubernetes.io/name: {{ include "scaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "scaler.labels" -}}
{{ include "scaler.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: keda
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "scaler.metadata" -}}
name: {{ include "scaler.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "scaler.labels" . | nindent 2 }}
{{- end }}

{{- define "scaler.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "scaler.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "scaler.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The host by which KEDA reaches the scaler; the certificate has it too. */}}
{{- define "scaler.host" -}}
{{ include "scaler.fullname" . }}.{{ .Release.Namespace }}
{{- end }}

{{- define "scaler.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled }}
{{- default (printf "%s-tls" (include "scaler.fullname" .)) .Values.tls.secretName }}
{{- else }}
{{- required "tls.enabled: want tls.secretName, or tls.certManager.enabled" .Values.tls.secretName }}
{{- end }}
{{- end }}

{{- define "scaler.clientCaSecret" -}}
{{- default (include "scaler.tlsSecret" .) .Values.tls.clientAuth.caSecretName }}
{{- end }}

{{/* Is KEDA's client certificate made by cert-manager? */}}
{{- define "scaler.makesClientCertificate" -}}
{{- with .Values.tls }}
{{- if and .enabled .clientAuth.enabled .certManager.enabled (not .clusterTriggerAuthentication.clientSecretName) }}true{{ end }}
{{- end }}
{{- end }}

{{- define "scaler.clientSecret" -}}
{{- if include "scaler.makesClientCertificate" . }}
{{- printf "%s-client-tls" (include "scaler.fullname" .) }}
{{- else }}
{{- .Values.tls.clusterTriggerAuthentication.clientSecretName }}
{{- end }}
{{- end }}

{{/* Names that a client's certificate may have, as a YAML list; the first is the one that cert-manager is asked for. */}}
{{- define "scaler.clientSans" -}}
{{- if .Values.tls.clientAuth.allowedSans }}
{{- toYaml .Values.tls.clientAuth.allowedSans }}
{{- else if include "scaler.makesClientCertificate" . }}
{{- toYaml (list (printf "keda-operator.%s.svc" .Values.keda.namespace)) }}
{{- end }}
{{- end }}

{{/* The scaler's configuration file: `config` as it is, and where the TLS files are. */}}
{{- define "scaler.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if .Values.tls.enabled }}
{{- $tls := dict "cert" "/tls/tls.crt" "key" "/tls/tls.key" }}
{{- if .Values.tls.clientAuth.enabled }}
{{- $_ := set $tls "clientCa" (printf "/client-ca/%s" .Values.tls.clientAuth.caKey) }}
{{- with include "scaler.clientSans" . | fromYamlArray }}
{{- $_ := set $tls "clientAllowedSans" . }}
{{- end }}
{{- end }}
{{- $_ := set $config "tls" $tls }}
{{- end }}
{{- toYaml $config }}
{{- end }}
