"""The executed `90-report` as one page: nothing in it comes from elsewhere, and nothing in it is a script."""

from pathlib import Path

from allocator.report.artefacts import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


def export(notebook: Path, page: Path, title: str) -> int:
    """
    Write the page; returns its size in bytes.

    Args:
        notebook: Executed, whether or not all of its cells succeeded.
    """
    import nbformat
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.TemplateExporter.extra_template_basedirs = [str(TEMPLATES)]
    config.TemplateExporter.exclude_input = True
    exporter = HTMLExporter(config=config, template_name="page")  # type: ignore[no-untyped-call]
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    document.metadata["title"] = title
    body, _ = exporter.from_notebook_node(document)
    data = body.encode()
    write_atomically(page, data)
    return len(data)
