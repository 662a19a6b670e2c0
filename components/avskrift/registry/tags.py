"""The tags that Avskrift puts on runs and model versions, each named once."""

PIPELINE_RUN_ID = "avskrift.pipeline_run_id"
DATASET_FINGERPRINT = "avskrift.dataset_fingerprint"
DATASET_SOURCE = "avskrift.dataset_source"
DATASET_LICENCE = "avskrift.dataset_licence"
PACKAGE_SHA256 = "avskrift.package_sha256"
PACKAGE_URI = "avskrift.package_uri"
BASELINE_URI = "avskrift.baseline_uri"
LANGUAGE = "avskrift.language"
NORMALISER = "avskrift.normaliser"
ENGINE = "avskrift.engine"
CODE_VERSION = "avskrift.code_version"
GATE = "avskrift.gate"  # passed | rejected
GATE_REASONS = "avskrift.gate_reasons"
GATE_OVERRIDE_BY = "avskrift.gate_override_by"  # only where a person went past a rule that failed
GATE_OVERRIDE_REASON = "avskrift.gate_override_reason"
ERROR = "avskrift.error"
PIPELINE_STATE = "avskrift.pipeline_state"
