{{/* Names. */}}
{{- define "handoff.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "handoff.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "handoff.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "handoff.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "handoff.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "handoff.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "handoff.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Labels: of everything, and of the pods of one part ("relay", "redis", "load-test"). */}}
{{- define "handoff.labels" -}}
{{ include "handoff.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "handoff.selector" -}}
app.kubernetes.io/name: {{ include "handoff.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* A whole number of seconds, from "15s". */}}
{{- define "handoff.seconds" -}}
{{- trimSuffix "s" . | int -}}
{{- end }}

{{/* The time a pod gets to go: the pause before it is told, its drain, and a spare. */}}
{{- define "handoff.terminationSeconds" -}}
{{- $drain := .Values.settings.drain -}}
{{- add .Values.pod.preStopSeconds (include "handoff.seconds" $drain.grace) (include "handoff.seconds" $drain.window) .Values.pod.spareSeconds -}}
{{- end }}

{{/* A value as TOML. YAML's whole numbers arrive as floats. */}}
{{- define "handoff.toml" -}}
{{- if kindIs "float64" . -}}
{{- if eq (float64 (int64 .)) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}

{{/* What the settings file says: the settings, and what the other values make of listeners and files. */}}
{{- define "handoff.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $_ := set $settings.server "listen" "0.0.0.0:8080" -}}
{{- $_ := set $settings.server "metrics_listen" "0.0.0.0:9090" -}}
{{- if .Values.tls.secret -}}
{{- $_ := set $settings.server "tls_certificate" "/etc/handoff/tls/tls.crt" -}}
{{- $_ := set $settings.server "tls_key" "/etc/handoff/tls/tls.key" -}}
{{- end -}}
{{- if or .Values.jwks.configMap .Values.jwks.secret -}}
{{- $_ := set $settings.open "jwks_file" "/etc/handoff/jwks/jwks.json" -}}
{{- end -}}
{{- if .Values.redis.trial.enabled -}}
{{- $_ := set $settings.redis "url" (list (printf "redis://%s-redis:6379" (include "handoff.fullname" .))) -}}
{{- else if .Values.redis.urls -}}
{{- $_ := set $settings.redis "url" .Values.redis.urls -}}
{{- end -}}
{{- if .Values.redis.caSecret.name -}}
{{- $_ := set $settings.redis "certificate_authority" "/etc/handoff/redis-ca/ca.crt" -}}
{{- end -}}
{{- if .Values.settings.activation.enabled -}}
{{- if or .Values.activation.enrolmentJwks.configMap .Values.activation.enrolmentJwks.secret -}}
{{- $_ := set $settings.activation "enrolment_jwks_file" "/etc/handoff/enrolment/jwks.json" -}}
{{- end -}}
{{- end -}}
{{- range $section, $keys := $settings }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ include "handoff.toml" $value }}
{{- end }}
{{- end }}
{{ end -}}
{{- end }}

{{/* The secrets of the activation: variable, value, key in the secret. What migrations need, and what else serving needs. */}}
{{- define "handoff.migrationEnv" -}}
# Not in the settings file: the image has this variable, and variables win.
- name: HANDOFF_ACTIVATION__DATA_DIRECTORY
  value: /etc/handoff/keys
- name: HANDOFF_ACTIVATION__DATABASE_URL_FILE
  value: /etc/handoff/database/url
{{- end }}

{{- define "handoff.migrationMounts" -}}
- name: activation-keys
  mountPath: /etc/handoff/keys
  readOnly: true
- name: database
  mountPath: /etc/handoff/database
  readOnly: true
{{- if .Values.activation.databaseCaSecret.name }}
- name: database-ca
  mountPath: /etc/handoff/database-ca
  readOnly: true
{{- end }}
{{- end }}

{{/* Whether this is a place to try things out: no SMS is sent, and no identity-proofing system is named. */}}
{{- define "handoff.takesDevelopmentTokens" -}}
{{- $jwks := .Values.activation.enrolmentJwks -}}
{{- if and (eq (toString .Values.settings.sms.gateway) "outbox") (not $jwks.configMap) (not $jwks.secret) }}yes{{ end -}}
{{- end }}

{{- define "handoff.migrationVolumes" -}}
{{- $a := .Values.activation -}}
- name: activation-keys
  secret:
    secretName: {{ $a.keysSecret.name }}
    defaultMode: 0440
    items:
      - {key: registry.key, path: registry.key}
      - {key: pin.setups, path: pin.setups}
      - {key: admin.token, path: admin.token}
      {{- if include "handoff.takesDevelopmentTokens" . }}
      - {key: development.key, path: development.key}
      {{- end }}
- name: database
  secret:
    secretName: {{ $a.databaseSecret.name }}
    defaultMode: 0440
    items: [{key: {{ $a.databaseSecret.key | quote }}, path: url}]
{{- if $a.databaseCaSecret.name }}
- name: database-ca
  secret:
    secretName: {{ $a.databaseCaSecret.name }}
    items: [{key: {{ $a.databaseCaSecret.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}

{{/* Secrets of the SMS gateways and of the webhook: volume, folder of the file, its name there, variable. */}}
{{- define "handoff.servingSecrets" -}}
{{- $a := .Values.activation -}}
{{- $all := list
  (dict "of" $a.smsTokenSecret "name" "sms" "file" "token" "variable" "HANDOFF_SMS__TOKEN_FILE")
  (dict "of" $a.smsReportKeySecret "name" "sms-report" "file" "key" "variable" "HANDOFF_SMS__REPORT_KEY_FILE")
  (dict "of" $a.smsSecondTokenSecret "name" "sms-second" "file" "token" "variable" "HANDOFF_SMS_SECOND__TOKEN_FILE")
  (dict "of" $a.smsSecondReportKeySecret "name" "sms-second-report" "file" "key" "variable" "HANDOFF_SMS_SECOND__REPORT_KEY_FILE")
  (dict "of" $a.webhookKeySecret "name" "webhook" "file" "key" "variable" "HANDOFF_ACTIVATION__WEBHOOK_KEY_FILE")
-}}
{{- $set := list -}}
{{- range $all -}}
{{- if .of.name -}}
{{- $set = append $set (dict "secret" .of.name "key" .of.key "name" .name "file" .file "variable" .variable) -}}
{{- end -}}
{{- end -}}
{{- toYaml $set -}}
{{- end }}

{{/* What the schema cannot say, because it takes two values to see it. */}}
{{- define "handoff.check" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- $shared := or .Values.redis.trial.enabled (not (empty .Values.redis.urls)) -}}
{{- if not .Values.settings.open.policy -}}
{{- fail "settings.open.policy must be set: \"jwt\" (with jwks and settings.open.audience), or \"anyone\"" -}}
{{- end -}}
{{- if eq .Values.settings.open.policy "jwt" -}}
{{- if not (or .Values.jwks.configMap .Values.jwks.secret) -}}
{{- fail "settings.open.policy \"jwt\" needs jwks.configMap or jwks.secret" -}}
{{- end -}}
{{- if not .Values.settings.open.audience -}}
{{- fail "settings.open.policy \"jwt\" needs settings.open.audience" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.jwks.configMap .Values.jwks.secret -}}
{{- fail "jwks.configMap and jwks.secret are both set: name one" -}}
{{- end -}}
{{- if and $many (not $shared) -}}
{{- fail "more than one replica needs redis.urls, or redis.trial.enabled for a trial: without Redis each node has its own sessions" -}}
{{- end -}}
{{- if and $shared (ne .Values.settings.network.refuse "nothing") (not .Values.tagKeySecret.name) -}}
{{- fail "settings.network.refuse needs tagKeySecret: nodes with different keys cannot compare addresses" -}}
{{- end -}}
{{- if and .Values.redis.trial.enabled .Values.redis.urls -}}
{{- fail "redis.trial.enabled and redis.urls are both set: choose one" -}}
{{- end -}}
{{- if and .Values.redis.trial.enabled (ne .Values.settings.redis.topology "single") -}}
{{- fail "the trial Redis is a single one: settings.redis.topology must be \"single\"" -}}
{{- end -}}
{{- if and (eq .Values.settings.redis.topology "sentinel") (not .Values.settings.redis.sentinel_master) -}}
{{- fail "settings.redis.topology \"sentinel\" needs settings.redis.sentinel_master" -}}
{{- end -}}
{{- if and .Values.traces.headersSecret.name (not .Values.settings.traces.endpoint) -}}
{{- fail "traces.headersSecret is set, but settings.traces.endpoint is not" -}}
{{- end -}}
{{- include "handoff.checkActivation" . -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the gateways" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.hostnames) -}}
{{- fail "httpRoute.enabled needs httpRoute.hostnames" -}}
{{- end -}}
{{- if and .Values.ingress.hashOnSession (ne .Values.ingress.controller "nginx") -}}
{{- fail "ingress.hashOnSession needs ingress.controller \"nginx\"" -}}
{{- end -}}
{{- end }}

{{- define "handoff.checkActivation" -}}
{{- $a := .Values.activation -}}
{{- $settings := .Values.settings.activation -}}
{{- $sms := .Values.settings.sms -}}
{{- if $settings.enabled -}}
{{- if not $a.databaseSecret.name -}}
{{- fail "settings.activation.enabled needs activation.databaseSecret: the address of a PostgreSQL database; a pod has no disk for the registry" -}}
{{- end -}}
{{- if not $a.keysSecret.name -}}
{{- fail "settings.activation.enabled needs activation.keysSecret: the keys of the registry, which all nodes share and nobody can make again" -}}
{{- end -}}
{{- if not $settings.public_url -}}
{{- fail "settings.activation.enabled needs settings.activation.public_url: what apps prove their keys to; without it, any Host header would do" -}}
{{- end -}}
{{- if not $sms.gateway -}}
{{- fail "settings.sms.gateway must be set with settings.activation.enabled: \"gatewayapi\", \"twilio\", \"http\", or \"outbox\" for a trial without SMS" -}}
{{- end -}}
{{- include "handoff.checkGateway" (dict "name" "sms" "of" $sms "token" "smsTokenSecret" "secret" $a.smsTokenSecret) -}}
{{- include "handoff.checkGateway" (dict "name" "sms_second" "of" .Values.settings.sms_second "token" "smsSecondTokenSecret" "secret" $a.smsSecondTokenSecret) -}}
{{- if and .Values.settings.sms_second.gateway (eq $sms.gateway "outbox") -}}
{{- fail "settings.sms_second.gateway does nothing beside settings.sms.gateway \"outbox\"" -}}
{{- end -}}
{{- if and (not .Values.settings.sms_second.gateway) (or $a.smsSecondTokenSecret.name $a.smsSecondReportKeySecret.name) -}}
{{- fail "a secret of the second SMS gateway is set, but settings.sms_second.gateway is not" -}}
{{- end -}}
{{- if ne (empty $settings.webhook_url) (empty $a.webhookKeySecret.name) -}}
{{- fail "settings.activation.webhook_url and activation.webhookKeySecret belong together" -}}
{{- end -}}
{{- if and $a.enrolmentJwks.configMap $a.enrolmentJwks.secret -}}
{{- fail "activation.enrolmentJwks.configMap and .secret are both set: name one" -}}
{{- end -}}
{{- else if or $a.databaseSecret.name $a.keysSecret.name $sms.gateway -}}
{{- fail "secrets or a gateway of the activation are set, but settings.activation.enabled is false" -}}
{{- end -}}
{{- end }}

{{/* What one SMS gateway needs. */}}
{{- define "handoff.checkGateway" -}}
{{- $gateway := .of.gateway -}}
{{- if has $gateway (list "gatewayapi" "twilio") -}}
{{- if not (and .secret.name .of.sender) -}}
{{- fail (printf "settings.%s.gateway %q needs activation.%s and settings.%s.sender" .name $gateway .token .name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (toString $gateway) "twilio") (not .of.account) -}}
{{- fail (printf "settings.%s.gateway \"twilio\" needs settings.%s.account" .name .name) -}}
{{- end -}}
{{- if and (eq (toString $gateway) "http") (not (and .of.url .of.body)) -}}
{{- fail (printf "settings.%s.gateway \"http\" needs settings.%s.url and settings.%s.body" .name .name .name) -}}
{{- end -}}
{{- end }}

{{/* Names, and the database. */}}
{{- define "handoff.databaseEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.databasePorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.databaseTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What phones and SMS gateways may reach: sessions and activation, and neither health nor administration. */}}
{{- define "handoff.paths" -}}
{{- $paths := list "/v1/sessions/" -}}
{{- if .Values.settings.activation.enabled -}}
{{- $paths = concat $paths (list "/v1/activations" "/v1/apps") -}}
{{- $gateways := list .Values.settings.sms.gateway .Values.settings.sms_second.gateway -}}
{{- if or (has "twilio" $gateways) .Values.activation.smsReportKeySecret.name .Values.activation.smsSecondReportKeySecret.name -}}
{{- $paths = append $paths "/v1/sms/reports" -}}
{{- end -}}
{{- end -}}
{{- toYaml $paths -}}
{{- end }}
