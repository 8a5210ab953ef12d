"""The OpenAPI document holds: whatever is sent, the answer is one that it tells of."""

from schemathesis import Case, GenerationMode, openapi
from schemathesis.checks import CHECKS
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from allocator.api.app import create_app
from tests.api.servers import ApiServer

# The same examples in each run, and few of each operation.
GENERATION = GenerationConfig(deterministic=True, max_examples=10)
schema = openapi.from_dict(
    create_app().openapi(),
    config=SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION))),
)


@schema.parametrize()
def test_every_answer_is_documented(case: Case, server: ApiServer) -> None:
    """No 5xx, no status, header, media type or body that the document does not tell of; wrong requests are refused."""
    _keep_what_no_document_can_say(case)

    # In a form every field is text: a number in the place of one is that number's digits, and no wrong request.
    unjudged = [CHECKS.get_one("negative_data_rejection")] if case.media_type == "multipart/form-data" else []
    case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", excluded_checks=unjudged)


def _keep_what_no_document_can_say(case: Case) -> None:
    """In requests that are to be right; those that break these two rules have tests of their own."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    # The key of an upload comes in one place.
    if isinstance(case.body, dict) and "idempotency_key" in case.body:
        case.headers.pop("idempotency-key", None)
    # The dead letter of the page before is one.
    if case.path == "/api/v1/dead-letters":
        case.query.pop("after", None)
