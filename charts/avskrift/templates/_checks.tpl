{{- /* What values.schema.json cannot say, since it concerns two values at once. */ -}}
{{- define "avskrift.checks" -}}
{{- $v := .Values -}}
{{- if ge (add (int $v.serving.graceSeconds) 5) (int $v.serving.terminationGracePeriodSeconds) -}}
{{- fail (printf "serving.graceSeconds is %d and serving.terminationGracePeriodSeconds %d: let the first be fewer by more than the 5 that a pod serves on, or requests in flight are cut off" (int $v.serving.graceSeconds) (int $v.serving.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- if and $v.mlflow.enabled (not $v.mlflow.postgresql.existingSecret) -}}
{{- fail "mlflow.enabled needs mlflow.postgresql.existingSecret: name a Secret of this namespace with POSTGRES_PASSWORD" -}}
{{- end -}}
{{- if and $v.mlflow.enabled (not $v.secrets.objectStore) -}}
{{- fail "mlflow.enabled needs secrets.objectStore: name a Secret of this namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" -}}
{{- end -}}
{{- if $v.endpoint.inferenceService.create -}}
{{- if not $v.endpoint.inferenceService.storageUri -}}
{{- fail "endpoint.inferenceService.create needs endpoint.inferenceService.storageUri: say where the model package lies, as s3://BUCKET/PREFIX" -}}
{{- end -}}
{{- if not $v.serving.enabled -}}
{{- fail "endpoint.inferenceService.create needs serving.enabled: the InferenceService runs by the ServingRuntime of this chart" -}}
{{- end -}}
{{- if gt (int $v.endpoint.inferenceService.minReplicas) (int $v.endpoint.inferenceService.maxReplicas) -}}
{{- fail "endpoint.inferenceService.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if eq $v.endpoint.inferenceService.deploymentMode "Knative" -}}
{{- if $v.serving.grpc -}}
{{- fail "endpoint.inferenceService.deploymentMode is Knative, which allows one port: set serving.grpc to false" -}}
{{- end -}}
{{- if ne $v.autoscaling.mode "none" -}}
{{- fail "endpoint.inferenceService.deploymentMode is Knative, which scales by itself: set autoscaling.mode to none" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (ne $v.autoscaling.mode "none") (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and (eq $v.autoscaling.mode "keda") (not $v.autoscaling.keda.prometheusUrl) -}}
{{- fail "autoscaling.mode keda needs autoscaling.keda.prometheusUrl, as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- if $v.externalSecrets.enabled -}}
{{- if or (not $v.externalSecrets.store.name) (not $v.externalSecrets.secrets) -}}
{{- fail "externalSecrets.enabled needs externalSecrets.store.name and at least one entry of externalSecrets.secrets" -}}
{{- end -}}
{{- end -}}
{{- range $v.serving.env -}}
{{- if and .value (regexMatch "(?i)(password|passwd|secret|token|credential|api_?key|access_?key)" .name) -}}
{{- fail (printf "serving.env: %s stands there in plain text; put it into a Secret and use valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- $host := printf "%s-predictor-%s" $v.endpoint.name .Release.Namespace -}}
{{- if gt (len $host) 63 -}}
{{- fail (printf "endpoint.name: the host name %s would be longer than 63 characters; choose a shorter name" $host) -}}
{{- end -}}
{{- end -}}
