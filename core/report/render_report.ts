/**
 * A self-contained page about a run: what it learned, what it froze, and what that saved.
 *
 * Plots are SVG. Rendering needs no permission; the page needs no network and no script.
 *
 * @module
 */

import { freezePlot } from "./freeze_plot.ts";
import { type Html, html, raw } from "./html.ts";
import { short, whole } from "./numbers.ts";
import type { Plot } from "./plots.ts";
import { costPlot, lossPlot } from "./step_plots.ts";
import { STYLE } from "./style.ts";
import { eventTable, reasonTable } from "./tables.ts";
import type { RunReport } from "./types.ts";

/**
 * Renders a report as one HTML file.
 *
 * Long runs are thinned, keeping extremes, so that the page stays below 2 MB.
 *
 * @param run What happened
 * @returns The page, HTML
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
        <meta http-equiv="Content-Security-Policy"
          content="default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">
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

/** Explains the colours. The edge is null when there were no readings. */
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
