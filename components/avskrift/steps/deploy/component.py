"""The KFP face of deploy."""

from kfp import dsl

from avskrift.steps.images import image


@dsl.component(base_image=image("ops"), packages_to_install=[], install_kfp_package=False)
def deploy(
    package_uri: str,
    model_name: str,
    version: str,
    sample: dsl.Input[dsl.Artifact],
    deployment: dsl.Output[dsl.Artifact],
    target: str = "local",
    service_name: str = "avskrift",
    port: int = 8085,
    namespace: str = "default",
    serving_image: str = "",
    cpu: str = "2",
    memory: str = "4Gi",
    gpus: int = 0,
    min_replicas: int = 1,
    max_replicas: int = 1,
    service_account: str = "",
    tracking_uri: str = "",
    deployment_mode: str = "standard",
    autoscaler: str = "",
    grpc: bool = False,
    canary: str = "10,50,100",
    watch_seconds: float = 60.0,
    max_error_rate: float = 0.02,
    max_latency_ratio: float = 2.0,
    ready_timeout_seconds: float = 0.0,
    service_url: str = "",
    overwrite_drift: bool = False,
) -> str:
    """Serve a registered version; the alias champion moves only after the endpoint passed a smoke transcription.

    Args:
        package_uri: Where the version's package lies.
        model_name: The registered model's name.
        version: The number of the model version.
        sample: Folder with clip.flac, a recording of speech to try the endpoint with.
        deployment: Folder with deployment.json and, but for local, inferenceservice.yaml.
        target: local starts a server on this machine; kserve applies the InferenceService; manifest only writes it.
        service_name: The model's name in the endpoint's URLs, and the InferenceService's name.
        port: The port of a local endpoint.
        namespace: The InferenceService's namespace.
        serving_image: The image that serves, by digest.
        cpu: The InferenceService's CPUs.
        memory: The InferenceService's memory.
        gpus: The InferenceService's GPUs.
        min_replicas: The fewest replicas.
        max_replicas: The most replicas.
        service_account: The service account whose secret reads the package's store; empty for the namespace's default.
        tracking_uri: MLflow's address; empty means MLFLOW_TRACKING_URI, else a database in the state folder.
        deployment_mode: KServe's deployment mode, standard or knative.
        autoscaler: KServe's autoscaler class, as external where the chart scales; empty for KServe's default.
        grpc: Offer gRPC on port 8081 too; in standard mode alone.
        canary: Percents of the traffic that the version gets, stage by stage; none replaces the version before at once.
        watch_seconds: How long each stage is watched.
        max_error_rate: The share of failed answers above which the version before comes back.
        max_latency_ratio: How many times the latency of the version before is too slow.
        ready_timeout_seconds: What each wait may take; 0 for 180 on this machine and 900 on a cluster.
        service_url: Where this step reaches the service, in place of the URL that KServe gives it.
        overwrite_drift: Overwrite what somebody else changed on the InferenceService.

    Returns:
        The endpoint's URL; empty where only a manifest was written.
    """
    from avskrift.steps.boundary import boundary
    from avskrift.steps.deploy.step import Config, run

    with boundary("deploy"):
        result = run(
            Config(
                package_uri=package_uri,
                model_name=model_name,
                version=version,
                out=deployment.path,
                target=target,
                service_name=service_name,
                port=int(port),  # KFP may hand on a whole number as a float
                smoke_audio=f"{sample.path}/clip.flac",
                namespace=namespace,
                image=serving_image,
                cpu=cpu,
                memory=memory,
                gpus=int(gpus),
                min_replicas=int(min_replicas),
                max_replicas=int(max_replicas),
                service_account=service_account,
                tracking_uri=tracking_uri,
                mode=deployment_mode,
                autoscaler=autoscaler,
                grpc=grpc,
                canary=canary,
                watch_s=watch_seconds,
                max_error_rate=max_error_rate,
                max_latency_ratio=max_latency_ratio,
                ready_timeout_s=ready_timeout_seconds,
                service_url=service_url,
                force=overwrite_drift,
            )
        )
    return result.url
