{{- define "consumer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "consumer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "consumer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "consumer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "consumer.labels" -}}
{{ include "consumer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "consumer.metadata" -}}
name: {{ include "consumer.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "consumer.labels" . | nindent 2 }}
{{- end }}

{{- define "consumer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "consumer.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "consumer.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Values that came after the chart's first release are absent after `helm upgrade --reuse-values`.
So what follows reads `(.Values.a).b`, and has the defaults of values.yaml again. */}}

{{- define "consumer.adminPort" -}}
{{- $address := default ":9090" .Values.admin }}
{{- if regexMatch "^(127\\.|\\[::1\\])" $address }}
{{- fail (printf "admin: want an address that probes and Prometheus reach, not the loopback address %s" $address) }}
{{- end }}
{{- regexFind "[0-9]+$" $address }}
{{- end }}

{{/* The pod's volume with the authorities of `caBundle`, or nothing. */}}
{{- define "consumer.caBundle" -}}
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
{{- define "consumer.env" -}}
{{- $all := list }}
{{- if include "consumer.caBundle" . }}
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

{{- define "consumer.dns" -}}
{{- with default (ternary "ClusterFirstWithHostNet" "" (default false .Values.hostNetwork)) .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A program in another language, by way of kcl-multilang? */}}
{{- define "consumer.multilang" -}}
{{- if (.Values.multilang).enabled }}yes{{ end }}
{{- end }}

{{- define "consumer.multilangImage" -}}
{{- with .Values.multilang.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The .properties file: `multilang.properties` over what other values say. */}}
{{- define "consumer.properties" -}}
{{- $keys := dict
  "executableName" .Values.multilang.executable
  "applicationName" .Values.applicationName
  "AwsCredentialsProvider" "DefaultCredentialsProvider" }}
{{- with .Values.failoverTime }}
{{- $epoch := toDate "2006-01-02" "1970-01-01" }}
{{- $failover := mustDateModify (nospace .) $epoch }}
{{- $_ := set $keys "failoverTimeMillis" (sub $failover.UnixMilli $epoch.UnixMilli) }}
{{- end }}
{{- $_ := set $keys (ternary "streamArn" "streamName" (hasPrefix "arn:" .Values.streamName)) .Values.streamName }}
{{- with .Values.awsRegion }}
{{- $_ := set $keys "regionName" . }}
{{- end }}
{{- $_ := set $keys "retrievalMode" (upper .Values.retrieval) }}
{{- if and (eq .Values.retrieval "fanout") .Values.consumerName }}
{{- $kind := ternary "consumerArn" "consumerName" (hasPrefix "arn:" .Values.consumerName) }}
{{- $_ := set $keys (printf "fanoutConfig.%s" $kind) .Values.consumerName }}
{{- end }}
{{- if has .Values.initialPosition (list "TRIM_HORIZON" "LATEST") }}
{{- $_ := set $keys "initialPositionInStream" .Values.initialPosition }}
{{- else }}
{{- $time := mustToDate "2006-01-02T15:04:05Z07:00" .Values.initialPosition }}
{{- $_ := set $keys "initialPositionInStreamExtended" (unixEpoch $time) }}
{{- end }}
{{- range $key, $value := mergeOverwrite $keys (default dict .Values.multilang.properties) }}
{{- /* Helm's numbers are floating ones: of a million it would make 1e+06. */}}
{{ $key }} = {{ ternary (int64 $value) $value (kindIs "float64" $value) | toString | replace "\\" "\\\\" }}
{{- end }}
{{- end }}

{{/* The trigger's metadata, under `scaledObject.metadata`. */}}
{{- define "consumer.triggerMetadata" -}}
{{- $metadata := deepCopy (default dict .Values.scaledObject.metadata) }}
{{- if include "consumer.multilang" . }}
{{- $metadata = merge $metadata (dict "scaleOn" "lag" "applicationName" .Values.applicationName) }}
{{- with (.Values.multilang.properties).tableName }}
{{- $metadata = merge $metadata (dict "leaseTable" .) }}
{{- end }}
{{- if not (has .Values.initialPosition (list "TRIM_HORIZON" "LATEST")) }}
{{- $metadata = merge $metadata (dict "initialTimestamp" .Values.initialPosition) }}
{{- end }}
{{- end }}
{{- if .Values.streams }}
{{- $metadata = merge $metadata (dict "scaleOn" "readableShards" "applicationName" .Values.applicationName) }}
{{- end }}
{{- with $metadata }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* A ServiceMonitor's or PodMonitor's endpoint, from the monitor's values. */}}
{{- define "consumer.endpoint" -}}
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
