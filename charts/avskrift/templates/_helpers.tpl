{{- define "avskrift.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- /* Room for the longest suffix: a name ends up as one label of a host name, of 63 characters. */ -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "avskrift.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: avskrift
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What selects one of the chart's own pods: (dict "root" $ "component" NAME). */ -}}
{{- define "avskrift.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* Labels and annotations of one of the chart's own pods: (dict "root" $ "component" NAME). */ -}}
{{- define "avskrift.podMetadata" -}}
labels:
  {{- include "avskrift.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: avskrift
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* An image's reference: (dict "root" $ "image" VALUES). A digest decides; the one registry takes the place of any other. */ -}}
{{- define "avskrift.image" -}}
{{- if .root.Values.imageRegistry -}}
{{- /* What comes before the first slash is a registry if it has a dot or a port. */ -}}
{{- .root.Values.imageRegistry }}/{{ regexReplaceAll "^[^/]*[.:][^/]*/" .image.repository "" -}}
{{- else -}}
{{- .image.repository -}}
{{- end -}}
{{- if .image.digest -}}
@{{ .image.digest }}
{{- else -}}
:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "avskrift.serviceAccount" -}}
{{- $account := index .root.Values.serviceAccounts .role -}}
{{- $account.name | default (printf "%s-%s" (include "avskrift.fullname" .root) .role) -}}
{{- end -}}

{{- define "avskrift.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* The "restricted" Pod Security Standard of a pod; the argument is its uid, which is also the group of its volumes. */ -}}
{{- define "avskrift.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "avskrift.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "avskrift.mlflowHost" -}}
{{ include "avskrift.fullname" . }}-mlflow
{{- end -}}

{{- define "avskrift.postgresqlHost" -}}
{{ include "avskrift.fullname" . }}-postgresql
{{- end -}}

{{- define "avskrift.storeHost" -}}
{{ include "avskrift.fullname" . }}-object-store
{{- end -}}

{{- /* The keys of the object store, from the Secret that the values name. */ -}}
{{- define "avskrift.storeKeys" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secrets.objectStore | quote }}
      key: AWS_ACCESS_KEY_ID
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secrets.objectStore | quote }}
      key: AWS_SECRET_ACCESS_KEY
{{- end -}}

{{- /* Labels that KServe gives to the endpoint's pods and to its Service. */ -}}
{{- define "avskrift.predictorLabels" -}}
serving.kserve.io/inferenceservice: {{ .Values.endpoint.name | quote }}
component: predictor
{{- end -}}
