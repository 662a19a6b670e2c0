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

{{- /* One ingress rule for whom values name; none where they name nobody, since a rule without anybody lets in all: (dict "peers" PEERS "ports" PORTS). */ -}}
{{- define "avskrift.ingressFrom" -}}
{{- if .peers -}}
- from:
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

{{- /* The ways to the endpoint: straight to its pods, and through the gateway, where its URL leads and a canary is split. */ -}}
{{- define "avskrift.egressEndpoint" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "avskrift.predictorLabels" . | nindent 10 }}
  {{- include "avskrift.ports" (include "avskrift.predictorPorts" . | fromJsonArray) | nindent 2 }}
{{- with include "avskrift.egressTo" .Values.networkPolicy.gateway }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "avskrift.predictorPorts" -}}
{{- if .Values.serving.grpc }}[8080, 8081]{{ else }}[8080]{{ end -}}
{{- end -}}

{{- /* What Kubeflow labels every pod of a run with: the steps, and the drivers before them. */ -}}
{{- define "avskrift.kubeflowPods" -}}
pipelines.kubeflow.org/v2_component: "true"
{{- end -}}

{{- /* The pods of a pipeline's steps. Kubeflow labels all of them; where it runs in the same namespace only ours are meant. */ -}}
{{- define "avskrift.stepSelector" -}}
{{- if eq .Values.networkPolicy.scope "namespace" -}}
matchLabels:
  {{- include "avskrift.kubeflowPods" . | nindent 2 }}
{{- else -}}
matchExpressions:
  - key: avskrift/role
    operator: Exists
{{- end -}}
{{- end -}}
