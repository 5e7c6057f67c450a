{{- define "explain.name" -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "explain.labels" -}}
app.kubernetes.io/name: mistudio-explain
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels that never change, of the release or (with a service) of one service's pods: (dict "root" $ "service" name) */}}
{{- define "explain.selector" -}}
app.kubernetes.io/name: mistudio-explain
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .service }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* What a process serves, by the name of its workload; the one list that everything else loops over. */}}
{{- define "explain.services" -}}
context: [context]
validation: [validation]
generation: [generation]
redelivery: [redelivery, replayer, escalation]
aggregator: [aggregator, gateway]
{{- end }}

{{/* The workloads whose pods look at LLM servers: the gateway shows them, a judge asks them. The Job and the test are called topics and doctor. */}}
{{- define "explain.lookers" -}}
- generation
- aggregator
- doctor
{{- if dig "judge" "enabled" false .Values.config }}
- validation
{{- end }}
{{- end }}

{{/* The groups of each workload that lag is counted of. */}}
{{- define "explain.groups" -}}
context: [mistudio-explain.context]
validation: [mistudio-explain.validation]
generation: [mistudio-explain.generation]
{{- end }}

{{- define "explain.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* mistudio-explain.toml of a process with some of the endpoints: (dict "root" $ "endpoints" list) */}}
{{- define "explain.config" -}}
{{- $endpoints := .endpoints }}
{{- with .root }}
{{- $kafka := dict "bootstrap_servers" .Values.kafka.bootstrapServers "security_protocol" .Values.kafka.securityProtocol "partitions" (int .Values.kafka.partitions) "lane_partitions" (int .Values.kafka.lanePartitions) "start_timeout_s" 0 "metadata_max_age_ms" 15000 }}
{{- if hasPrefix "SASL" .Values.kafka.securityProtocol }}
{{- $_ := set $kafka "sasl_mechanism" .Values.kafka.saslMechanism }}
{{- $_ := set $kafka "sasl_username" (required "kafka.saslUsername is needed with kafka.securityProtocol SASL_*" .Values.kafka.saslUsername) }}
{{- $_ := set $kafka "sasl_password_file" (printf "/secrets/kafka/%s" .Values.kafka.passwordSecret.key) }}
{{- end }}
{{- if and (hasSuffix "SSL" .Values.kafka.securityProtocol) .Values.kafka.caSecret.name }}
{{- $_ := set $kafka "ssl_cafile" (printf "/secrets/kafka-ca/%s" .Values.kafka.caSecret.key) }}
{{- end }}
{{- if .Values.kafka.clientSecret.name }}
{{- $_ := set $kafka "ssl_certfile" (printf "/secrets/kafka-client/%s" .Values.kafka.clientSecret.certKey) }}
{{- $_ := set $kafka "ssl_keyfile" (printf "/secrets/kafka-client/%s" .Values.kafka.clientSecret.keyKey) }}
{{- end }}
{{- $store := dict "url" (printf "postgresql://%s@%s:%d/%s" .Values.postgresql.user .Values.postgresql.host (int .Values.postgresql.port) .Values.postgresql.database) "password_file" (printf "/secrets/postgresql/%s" .Values.postgresql.passwordSecret.key) }}
{{- $gateway := dict "host" "0.0.0.0" "port" (int .Values.gateway.port) "behind_tls" .Values.gateway.behindTls }}
{{- $longest := dig "llm" "deadline_s" 300 .Values.config | int }}
{{- if gt (add $longest 30) (int64 .Values.terminationGracePeriodSeconds) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but a call may take %d s (config.llm.deadline_s); allow at least 30 s more" (int .Values.terminationGracePeriodSeconds) $longest) }}
{{- end }}
{{- $ours := dict "kafka" $kafka "store" $store "llm" (dict "endpoints" $endpoints) "gateway" $gateway "reports" (dict "directory" "/data/reports") "limits" (dict "grace_s" (sub (int .Values.terminationGracePeriodSeconds) 30)) }}
{{- mustMergeOverwrite $ours (deepCopy .Values.config) | toToml }}
{{- end }}
{{- end }}
