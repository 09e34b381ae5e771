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
{{- else }}
{{- fail "tls.clientAuth: want tls.clientAuth.allowedSans, the names (DNS, URI) in KEDA's certificate, such as [keda-operator.keda.svc]: an authority of your own signs for others, too" }}
{{- end }}
{{- end }}

{{/* The scaler's configuration file: `config` as it is, and where the TLS files are. */}}
{{- define "scaler.config" -}}
{{- $config := deepCopy .Values.config }}
{{- range $key := list "listen" "admin" }}
{{- if not (get $config $key) }}
{{- $config = omit $config $key }}
{{- end }}
{{- end }}
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
{{- $_ := set $config "logLevel" .Values.logLevel }}
{{- toYaml $config }}
{{- end }}

{{/* Of the configuration what needs a restart; the scaler takes the rest over when the file changes. */}}
{{- define "scaler.configOfStart" -}}
{{- $config := include "scaler.config" . | fromYaml }}
{{- $config = omit $config "policy" "policyDefault" "explain" "perShardMetrics" "logLevel" }}
{{- $_ := set $config "aws" (omit $config.aws "refresh" "maxStale") }}
{{- toYaml $config }}
{{- end }}

{{/* Values that came after the chart's first release are absent after `helm upgrade --reuse-values`.
So what follows reads `(.Values.a).b`, and has the defaults of values.yaml again. */}}

{{- define "scaler.grpcPort" -}}
{{- regexFind "[0-9]+$" (default ":6000" .Values.config.listen) }}
{{- end }}

{{- define "scaler.adminPort" -}}
{{- $address := default ":9090" (.Values.config).admin }}
{{- if regexMatch "^(127\\.|\\[::1\\])" $address }}
{{- fail (printf "config.admin: want an address that probes and Prometheus reach, not the loopback address %s" $address) }}
{{- end }}
{{- regexFind "[0-9]+$" $address }}
{{- end }}

{{/* The pod's volume with the authorities of `caBundle`, or nothing. */}}
{{- define "scaler.caBundle" -}}
{{- with .Values.caBundle }}
{{- if and .configMap .secret }}
{{- fail "caBundle: want configMap or secret, not both" }}
{{- end }}
{{- $items := list (dict "key" .key "path" .key) }}
{{- if .configMap }}
{{- toYaml (dict "name" "ca-bundle" "configMap" (dict "name" .configMap "items" $items)) }}
{{- else if .secret }}
{{- toYaml (dict "name" "ca-bundle" "secret" (dict "secretName" .secret "items" $items)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The environment that `caBundle`, `env` and `extraEnv` give, without empty variables. */}}
{{- define "scaler.env" -}}
{{- $all := list }}
{{- if include "scaler.caBundle" . }}
{{- $file := printf "/ca-bundle/%s" .Values.caBundle.key }}
{{- range $name := list "AWS_CA_BUNDLE" "SSL_CERT_FILE" }}
{{- $all = append $all (dict "name" $name "value" $file) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.env }}
{{- if not (kindIs "invalid" $value) }}
{{- $all = append $all (dict "name" $name "value" (toString $value)) }}
{{- end }}
{{- end }}
{{- range concat $all (default list .Values.extraEnv) }}
{{- if or .value .valueFrom }}
{{- toYaml (list .) | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "scaler.dns" -}}
{{- with default (ternary "ClusterFirstWithHostNet" "" (default false .Values.hostNetwork)) .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A ServiceMonitor's or PodMonitor's endpoint, from the monitor's values. */}}
{{- define "scaler.endpoint" -}}
port: admin
path: /metrics
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .extraEndpoint }}
{{ toYaml . }}
{{- end }}
{{- end }}
