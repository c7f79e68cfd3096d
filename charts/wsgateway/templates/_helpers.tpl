{{- define "wsgateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Release.Name .Values.nameOverride | trunc 54 | trimSuffix "-" -}}
{{- if hasSuffix "-operator" $name -}}{{ $name }}{{- else -}}{{ $name }}-operator{{- end -}}
{{- end -}}
{{- end }}

{{- define "wsgateway.selector" -}}
app.kubernetes.io/name: wsgateway-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wsgateway.labels" -}}
{{ include "wsgateway.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: wsgateway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "wsgateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wsgateway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "wsgateway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The roles' subjects. */ -}}
{{- define "wsgateway.subjects" -}}
- kind: ServiceAccount
  name: {{ include "wsgateway.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* The one name that the operator prints where it lacks access to Secrets; so it does not follow the release's. */ -}}
{{- define "wsgateway.secretsRole" -}}
wsgateway-operator-secrets
{{- end }}
