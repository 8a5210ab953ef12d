"""How the panels look: in the colours of JupyterLab's theme, light or dark."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

STYLE = """<style>
.allocator-lab { color: var(--jp-ui-font-color1); font-size: 13px; max-width: 1120px; }
.allocator-lab .widget-html-content { color: var(--jp-ui-font-color1); line-height: 1.45; }
.allocator-lab h3 { margin: 0; font-size: 15px; font-weight: 600; }
.allocator-lab h3 small { font-weight: 400; color: var(--jp-ui-font-color2); margin-left: 8px; font-size: 13px; }
.allocator-lab-panel { border: 1px solid var(--jp-border-color2); border-radius: 6px; padding: 8px 12px; margin: 4px 0 }
.allocator-lab-numbers { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.allocator-lab-numbers > div { min-width: 76px; }
.allocator-lab-numbers span { color: var(--jp-ui-font-color2); font-size: 12px; }
.allocator-lab-numbers output { display: block; font-size: 17px; font-variant-numeric: tabular-nums; }
.allocator-lab-line { display: flex; align-items: center; min-height: 30px; font-variant-numeric: tabular-nums; }
.allocator-lab-line span { width: 96px; }
.allocator-lab-heading { min-height: 0; color: var(--jp-ui-font-color2); font-size: 12px; }
.allocator-lab, .jp-OutputArea-output:has(> .allocator-lab), .jp-OutputArea-child:has(.allocator-lab),
.jp-OutputArea:has(.allocator-lab), .jp-Cell-outputWrapper:has(.allocator-lab) { overflow: visible; }
.allocator-lab-lines { position: sticky; top: 0; z-index: 2; background: var(--jp-layout-color0); }
.allocator-lab [role=alert] { border-left: 4px solid var(--jp-error-color1); padding: 6px 10px; white-space: pre-wrap;
  overflow-wrap: anywhere; background: var(--jp-layout-color2); }
.allocator-lab pre { color: var(--jp-ui-font-color1); background: var(--jp-layout-color2); padding: 8px; overflow: auto;
  max-height: 260px; margin: 4px 0; font-size: 12px; }
</style>"""


def panel(name: str, told: str, children: Iterable[Any]) -> Any:
    """A box with a heading, of class `allocator-lab-NAME`, in small letters."""
    heading = widgets.HTML(f"<h3>{html.escape(name)}<small>{html.escape(told)}</small></h3>")
    box = widgets.VBox([heading, *children])
    box.add_class("allocator-lab-panel")
    box.add_class(f"allocator-lab-{name.lower().replace(' ', '-')}")
    return box


def button(label: str, icon: str, tooltip: str, name: str) -> Any:
    """As wide as its label, of class `allocator-lab-NAME`."""
    made = widgets.Button(description=label, icon=icon, tooltip=tooltip, layout={"width": "auto"})
    made.add_class(f"allocator-lab-{name}")
    return made


def columns(cells: Iterable[str], heading: bool = False) -> str:
    """A line of a list, in columns of one width; the next line's stand below them."""
    kind = " allocator-lab-heading" if heading else ""
    texts = "".join(f"<span>{html.escape(cell)}</span>" for cell in cells)
    return f'<div class="allocator-lab-line{kind}">{texts}</div>'


def numbers(entries: Sequence[tuple[str, str, str, str]]) -> str:
    """Figures beside each other: class without its beginning, label, value, and what it means."""
    cells = "".join(
        f'<div title="{html.escape(meaning)}"><span>{html.escape(label)}</span>'
        f'<output class="allocator-lab-{name}">{html.escape(value)}</output></div>'
        for name, label, value, meaning in entries
    )
    return f'<div class="allocator-lab-numbers">{cells}</div>'
