/**
 * One self-contained page about a run: what it learned, what it froze, and what that saved.
 *
 * Plots are drawn to SVG on the spot. Rendering needs no permission; the page needs no network and no script.
 *
 * @module
 */

import type { Component, FreezeEvent } from "@firn/train";
import type { Change } from "./explanation.ts";
import { type Html, html, raw } from "./report_html.ts";
import { short, whole } from "./report_numbers.ts";
import { costPlot, freezePlot, lossPlot, type Plot } from "./report_plots.ts";
import { eventTable, reasonTable } from "./report_tables.ts";

/** What a step did. */
export interface MetricRow {
  /** 1-based number of the step. */
  readonly step: number;
  readonly loss: number;
  /** Absent where none was computed. */
  readonly validation?: number;
  /** NaN when the optimizer has none. */
  readonly learningRate: number;
  /** Absent where the run does not count tokens. */
  readonly tokensPerSecond?: number;
  /** Milliseconds. */
  readonly stepMs: number;
  /** Floating-point operations. */
  readonly flops: number;
  readonly launches: number;
  /** Components frozen during the step. */
  readonly frozen: number;
}

/** The readings that a policy compared with a threshold. */
export interface Readings {
  /** Name of what was measured, for people. */
  readonly signal: string;
  /** Threshold, above 0, in the unit of the values. */
  readonly tau: number;
  readonly values: readonly { readonly path: string; readonly step: number; readonly value: number }[];
}

/** All that {@link renderReport} shows. */
export interface RunReport {
  readonly title: string;
  /** Label and value of the figures at the top, most important first. */
  readonly summary: readonly (readonly [label: string, value: string])[];
  /** What the run was started with; shown as JSON. */
  readonly config: Readonly<Record<string, unknown>>;
  /** One entry a step, in order. */
  readonly rows: readonly MetricRow[];
  /** Changes of the frozen set, in order. */
  readonly events: readonly Omit<FreezeEvent, "reasons">[];
  /** What `explain` says of the events, in the same order. */
  readonly changes?: readonly Change[];
  /** In model order. */
  readonly components: readonly Pick<Component, "path" | "layer" | "kind" | "size">[];
  /** Step after which each component was frozen; absent for those that never were. */
  readonly frozenAt: Readonly<Record<string, number>>;
  readonly readings?: Readings;
  /** Text generated before and after training. */
  readonly samples?: { readonly before: string; readonly after: string };
  /** Perplexity of held-out text before and after training. */
  readonly perplexity?: { readonly before: number; readonly after: number };
}

/**
 * Renders a report as one HTML file.
 *
 * Long runs are thinned, keeping extremes, so that the page stays below 2 MB.
 *
 * @param run What happened
 * @returns The page, to be written to `report.html`
 */
export async function renderReport(run: RunReport): Promise<string> {
  const sections = run.rows.length === 0 ? [html`<p class="note">No step was taken.</p>`] : [
    figure("Loss", await lossPlot(run)),
    await freezing(run),
    figure("Cost of a step", await costPlot(run)),
    run.events.length > 0 ? eventTable(run.events, run.changes ?? []) : "",
    run.changes && run.changes.length > 0 ? reasonTable(run.changes) : "",
  ];
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
        <title>${run.title}</title>
        <style>${raw(STYLE)}</style>
      </head>
      <body>
        <svg width="0" height="0" aria-hidden="true" style="position:absolute">
          <defs>
            <pattern id="frozen" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
              <rect width="6" height="6" fill="var(--ice)" />
              <rect width="2" height="6" fill="var(--ice-line)" />
            </pattern>
          </defs>
        </svg>
        <main>
    <header><h1>${run.title}</h1>${summary(run)}</header>
    ${sections}
    ${run.samples ? samples(run.samples) : ""}
    <section><h2>Configuration</h2><pre>${JSON.stringify(run.config, null, 2)}</pre></section>
        </main>
      </body>
    </html>
  `.text.trimStart();
}

function summary({ summary, perplexity }: RunReport): Html {
  const figures = summary.map(([label, value]) => [label, value]);
  if (perplexity) figures.push(["Perplexity", `${short(perplexity.before)} → ${short(perplexity.after)}`]);
  return html`<dl>${
    figures.map(([label, value]) =>
      html`
        <div>
          <dt>${label}</dt>
          <dd>${value}</dd>
        </div>
      `
    )
  }</dl>`;
}

function samples({ before, after }: NonNullable<RunReport["samples"]>): Html {
  const sample = (name: string, text: string) =>
    html`
      <div>
        <h3>${name} training</h3>
        <blockquote>${text}</blockquote>
      </div>
    `;
  return html`
    <section>
      <h2>Generated text</h2>
      <div class="pair">${sample("Before", before)}${sample("After", after)}</div>
    </section>
  `;
}

function figure(title: string, { svg, caption }: Plot, extras: { legend?: Html; table?: Html } = {}): Html {
  const image = raw(svg.replace(
    "<svg ",
    html`
      <svg role="img" aria-label="${title}, step by step. ${caption}"
    `.text,
  ));
  return html`<section><h2>${title}</h2><figure>${extras.legend ?? ""}<div class="plot">${image}</div>
<figcaption>${caption}</figcaption></figure>${extras.table ?? ""}</section>`;
}

async function freezing(run: RunReport): Promise<Html> {
  const plot = await freezePlot(run);
  if (plot === null) {
    const note = "No component was frozen or measured: each was trained in every step.";
    return html`
      <section>
        <h2>Freezing</h2>
        <p class="note">${note}</p>
      </section>
    `;
  }
  const rows = plot.shown.map(({ path, kind, size }) =>
    html`
      <tr>
        <th scope="row">${path}</th>
        <td>${kind}</td>
        <td>${whole(size)}</td>
        <td>${Object.hasOwn(run.frozenAt, path) ? run.frozenAt[path] : "–"}</td>
      </tr>
    `
  );
  const table = html`
    <details>
      <summary>As a table</summary>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Component</th>
              <th scope="col">Kind</th>
              <th scope="col">Elements</th>
              <th scope="col">Frozen after step</th>
            </tr>
          </thead>
          <tbody>${rows}</tbody>
        </table>
      </div>
    </details>
  `;
  return figure("Freezing", plot, { legend: legend(run.readings ? plot.edge : null), table });
}

/** Explains the colours; an edge of null says that there were no readings. */
function legend(edge: number | null): Html {
  const swatch = (fill: string) =>
    html`
      <svg width="22" height="12" aria-hidden="true">
        <rect width="22" height="12" fill="${fill}" />
      </svg>
    `;
  const frozen = html`<span>${swatch("url(#frozen)")} frozen</span>`;
  if (edge === null) {
    return html`<p class="legend"><span>${swatch("var(--heat5)")} trained</span>${frozen}</p>`;
  }
  const half = (from: number) => [0, 1, 2, 3, 4].map((i) => swatch(`var(--heat${from + i})`));
  return html`<p class="legend"><span>${short(10 ** -edge)} τ ${half(0)} τ ${half(5)} ${
    short(10 ** edge)
  } τ</span>
${frozen}</p>`;
}

const STYLE = `
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1b2126; --soft: #5b6670; --rule: #c3cad0;
  --grid: #eceff1; --faint: #a9c6da; --accent: #1c6291; --ice: #e3eaef; --ice-line: #b4c6d3;
  --heat0: #17517c; --heat1: #3a7dac; --heat2: #74a9cc; --heat3: #aacbe0; --heat4: #d6e6ef;
  --heat5: #fbe9cf; --heat6: #f4cf9b; --heat7: #e8a962; --heat8: #d37c33; --heat9: #aa4c12; }
@media (prefers-color-scheme: dark) { :root { --paper: #11161a; --card: #181f25; --ink: #e6ebee; --soft: #96a3ad;
  --rule: #3d4952; --grid: #232c33; --faint: #3b6580; --accent: #7cc2ee; --ice: #1e272e; --ice-line: #41525f;
  --heat0: #a5dcfb; --heat1: #74b9e4; --heat2: #4a91bf; --heat3: #326b91; --heat4: #234a64;
  --heat5: #4d3a22; --heat6: #7c5628; --heat7: #ac7331; --heat8: #d99545; --heat9: #fcc67f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; letter-spacing: -.01em; margin: 0 0 .75rem; }
h3 { font-size: .85rem; color: var(--soft); font-weight: 600; margin: 0 0 .4rem; }
section { margin-top: 3rem; }
dl { display: flex; flex-wrap: wrap; margin: 0; overflow: hidden; background: var(--card);
  border: 1px solid var(--grid); border-radius: 10px; }
dl div { flex: 1 1 10rem; padding: .8rem 1rem; box-shadow: 0 0 0 .5px var(--grid); }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 0; }
figcaption, .legend, .note { color: var(--soft); font-size: .875rem; }
figcaption { margin-top: .5rem; max-width: 46rem; }
.plot { overflow-x: auto; }
.scroll { overflow: auto; max-height: 34rem; }
.scroll thead th { position: sticky; top: 0; background: var(--paper); }
.plot svg { display: block; width: 100%; min-width: 40rem; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 0 0 .5rem; }
.legend svg { vertical-align: -1px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .75rem; border-bottom: 1px solid var(--grid); vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; }
th:first-child { text-align: left; }
.events :is(th, td):nth-child(2) { text-align: left; min-width: 12rem; white-space: normal; overflow-wrap: anywhere; }
.reasons td small { display: inline; }
.reasons :is(th, td) { padding: .35rem .5rem; }
.reasons td:nth-child(7) { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.reasons :is(th, td):is(:nth-child(2), :nth-child(3), :nth-child(7)) { text-align: left; }
tfoot :is(th, td) { border: 0; font-weight: 600; }
td small { display: block; color: var(--soft); font-weight: 400; }
summary { cursor: pointer; }
section > details { margin-top: .5rem; font-size: .875rem; }
@media print { .scroll { max-height: none; } }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.5rem; }
blockquote, pre { margin: 0; padding: 1rem 1.15rem; background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
blockquote { font-family: ui-serif, Georgia, serif; }
pre { font: .8rem/1.5 ui-monospace, monospace; }
`;
