{{/* The pod of one workload: (dict "root" $ "name" name "arguments" list "labels" bool) */}}
{{- define "explain.pod" -}}
{{- $root := .root -}}
{{- $service := get $root.Values.services .name | default dict -}}
{{- $serves := hasKey (include "explain.services" $root | fromYaml) .name -}}
{{- $looks := has .name (include "explain.lookers" $root | fromYamlArray) -}}
metadata:
  labels:
    {{- include "explain.selector" (dict "root" $root "service" .name) | nindent 4 }}
  annotations:
    checksum/config: {{ include "explain.config" (dict "root" $root "endpoints" $root.Values.endpoints) | sha256sum }}
spec:
  serviceAccountName: {{ include "explain.name" $root }}
  automountServiceAccountToken: {{ and $looks (ne $root.Values.discovery "") }}
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- if $serves }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "explain.selector" (dict "root" $root "service" .name) | nindent 10 }}
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if not $serves }}
  restartPolicy: {{ ternary "OnFailure" "Never" (eq .name "topics") }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "explain.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{- toYaml .arguments | nindent 8 }}
      {{- if eq .name "generation" }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: MISTUDIO_EXPLAIN_KAFKA__INSTANCE_ID   # static membership: a pod that comes back gets its partitions at once
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
      {{- end }}
      {{- if $serves }}
      ports:
        - {name: health, containerPort: 9400}
        {{- if eq .name "aggregator" }}
        - {name: http, containerPort: {{ $root.Values.gateway.port }}}
        {{- end }}
      startupProbe: {httpGet: {path: /livez, port: health}, periodSeconds: 2, failureThreshold: 60}
      livenessProbe: {httpGet: {path: /livez, port: health}, periodSeconds: 10, timeoutSeconds: 5}
      readinessProbe: {httpGet: {path: /readyz, port: health}, periodSeconds: 5, timeoutSeconds: 5}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      {{- with $service.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: config, mountPath: /etc/mistudio-explain, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        - {name: postgresql, mountPath: /secrets/postgresql, readOnly: true}
        {{- if hasPrefix "SASL" $root.Values.kafka.securityProtocol }}
        - {name: kafka, mountPath: /secrets/kafka, readOnly: true}
        {{- end }}
        {{- if $root.Values.kafka.caSecret.name }}
        - {name: kafka-ca, mountPath: /secrets/kafka-ca, readOnly: true}
        {{- end }}
        {{- if $root.Values.kafka.clientSecret.name }}
        - {name: kafka-client, mountPath: /secrets/kafka-client, readOnly: true}
        {{- end }}
        {{- range $root.Values.secrets }}
        - {name: secret-{{ . | replace "." "-" }}, mountPath: /secrets/{{ . }}, readOnly: true}
        {{- end }}
        - {name: data, mountPath: /data}
  volumes:
    - {name: config, configMap: {name: {{ include "explain.name" $root }}}}
    - {name: tmp, emptyDir: {}}
    - {name: postgresql, secret: {secretName: {{ $root.Values.postgresql.passwordSecret.name }}}}
    {{- if hasPrefix "SASL" $root.Values.kafka.securityProtocol }}
    - {name: kafka, secret: {secretName: {{ required "kafka.passwordSecret.name is needed with kafka.securityProtocol SASL_*" $root.Values.kafka.passwordSecret.name }}}}
    {{- end }}
    {{- with $root.Values.kafka.caSecret.name }}
    - {name: kafka-ca, secret: {secretName: {{ . }}}}
    {{- end }}
    {{- with $root.Values.kafka.clientSecret.name }}
    - {name: kafka-client, secret: {secretName: {{ . }}}}
    {{- end }}
    {{- range $root.Values.secrets }}
    - {name: secret-{{ . | replace "." "-" }}, secret: {secretName: {{ . }}}}
    {{- end }}
    {{- if eq .name "aggregator" }}
    - {name: data, persistentVolumeClaim: {claimName: {{ include "explain.name" $root }}-reports}}
    {{- else }}
    - {name: data, emptyDir: {}}
    {{- end }}
{{- end }}
