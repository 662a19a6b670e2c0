{{- define "avskrift.ports" -}}
ports:
  {{- range . }}
  - protocol: TCP
    port: {{ . }}
  {{- end }}
{{- end -}}

{{- /* One egress rule to what a value names; none where it names nobody: (index .Values.networkPolicy NAME). */ -}}
{{- define "avskrift.egressTo" -}}
{{- if .peers -}}
- to:
    {{- toYaml .peers | nindent 4 }}
  {{- include "avskrift.ports" .ports | nindent 2 }}
{{- end -}}
{{- end -}}

{{- /* One egress rule to a pod of this chart: (dict "root" $ "component" NAME "port" NUMBER). */ -}}
{{- define "avskrift.egressToOurs" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "avskrift.selector" . | nindent 10 }}
  {{- include "avskrift.ports" (list .port) | nindent 2 }}
{{- end -}}

{{- define "avskrift.egressDns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns.peers | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - protocol: UDP
      port: {{ . }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
{{- end -}}

{{- define "avskrift.egressObjectStore" -}}
{{- $rules := list (include "avskrift.egressTo" .Values.networkPolicy.objectStore) -}}
{{- if .Values.mlflow.enabled -}}
{{- $rules = append $rules (include "avskrift.egressToOurs" (dict "root" . "component" "object-store" "port" 8333)) -}}
{{- end -}}
{{- compact $rules | join "\n" -}}
{{- end -}}

{{- define "avskrift.egressMlflow" -}}
{{- $rules := list (include "avskrift.egressTo" .Values.networkPolicy.mlflow) -}}
{{- if .Values.mlflow.enabled -}}
{{- $rules = append $rules (include "avskrift.egressToOurs" (dict "root" . "component" "mlflow" "port" 5000)) -}}
{{- end -}}
{{- compact $rules | join "\n" -}}
{{- end -}}

{{- define "avskrift.egressInternet" -}}
{{- if .Values.networkPolicy.internet.enabled -}}
{{- include "avskrift.egressTo" .Values.networkPolicy.internet }}
{{- end -}}
{{- end -}}

{{- define "avskrift.egressPredictor" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "avskrift.predictorLabels" . | nindent 10 }}
  {{- include "avskrift.ports" (include "avskrift.predictorPorts" . | fromJsonArray) | nindent 2 }}
{{- end -}}

{{- define "avskrift.predictorPorts" -}}
{{- if .Values.serving.grpc }}[8080, 8081]{{ else }}[8080]{{ end -}}
{{- end -}}

{{- /* The pods of a pipeline's steps. Kubeflow labels all of them; where it runs in the same namespace only ours are meant. */ -}}
{{- define "avskrift.stepSelector" -}}
{{- if eq .Values.networkPolicy.scope "namespace" -}}
matchLabels:
  pipelines.kubeflow.org/v2_component: "true"
{{- else -}}
matchExpressions:
  - key: avskrift/role
    operator: Exists
{{- end -}}
{{- end -}}
