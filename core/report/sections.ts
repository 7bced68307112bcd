/**
 * The sections of a page about a run, each with a name: a report has them, and a page that follows a run replaces those that
 * changed.
 *
 * @module
 */

import { freezeLegend } from "./freeze_legend.ts";
import { strokeMark } from "./comparison_tables.ts";
import { evaluationPlot } from "./evaluation_plot.ts";
import { freezePlot } from "./freeze_plot.ts";
import { type Html, html, type Part, raw } from "./html.ts";
import { short, whole } from "./numbers.ts";
import type { Plot } from "./plots.ts";
import { costPlot, lossPlot, metricsPlot } from "./step_plots.ts";
import { eventTable, reasonTable } from "./tables.ts";
import type { RunReport } from "./types.ts";

/** A part of a page. */
export interface Section {
  /** Its name among those of the page. */
  readonly id: typeof SECTION_IDS[number];
  /** What it shows. */
  readonly content: Part;
}

/** The names of all sections of a run, in their order. */
export const SECTION_IDS = [
  "head",
  "loss",
  "metrics",
  "evaluations",
  "freezing",
  "cost",
  "events",
  "reasons",
  "samples",
  "configuration",
] as const;

/** Texts that are shown of those that were written while a model trained. */
const MAX_SAMPLES = 20;
/** Rows of evaluations that are shown. */
const MAX_EVALUATIONS = 100;

/**
 * Makes the sections of a run.
 *
 * @param run What happened so far
 * @returns The sections, in their order; some are empty
 */
export async function runSections(run: RunReport): Promise<Section[]> {
  const { changes = [] } = run, none = run.rows.length === 0;
  const head = html`<header><h1>${run.title}</h1>${summary(run)}</header>`;
  return [
    { id: "head", content: head },
    {
      id: "loss",
      content: none ? html`<p class="note">No step was taken.</p>` : figure("Loss", await lossPlot(run)),
    },
    { id: "metrics", content: none ? "" : drawn("Of the loss", await metricsPlot(run)) },
    { id: "evaluations", content: await evaluations(run.evaluations ?? []) },
    { id: "freezing", content: none ? "" : await freezing(run) },
    { id: "cost", content: none ? "" : figure("Cost of a step", await costPlot(run)) },
    { id: "events", content: none || run.events.length === 0 ? "" : eventTable(run.events, changes) },
    { id: "reasons", content: none || changes.length === 0 ? "" : reasonTable(changes) },
    { id: "samples", content: samples(run) },
    {
      id: "configuration",
      content: html`
        <section>
          <h2>Configuration</h2>
          <pre>${JSON.stringify(run.config, null, 2)}</pre>
        </section>
      `,
    },
  ];
}

/** Letters from which on a value is a sentence, which gets a row of its own: in a narrow column its flags would break. */
const SENTENCE = 60;

function summary({ summary, perplexity }: RunReport): Html {
  const figures = summary.map(([label, value]) => [label, value]);
  if (perplexity) figures.push(["Perplexity", `${short(perplexity.before)} → ${short(perplexity.after)}`]);
  return html`<dl>${
    figures.map(([label, value]) => {
      const sort = String(value).length < SENTENCE ? "figure" : "sentence";
      return html`
        <div class="${sort}">
          <dt>${label}</dt>
          <dd>${value}</dd>
        </div>
      `;
    })
  }</dl>`;
}

/** What was written before, while and after the model trained. */
function samples({ samples: pair, written = [] }: RunReport): Part {
  if (pair === undefined && written.length === 0) return "";
  const text = (name: string, text: string): Html =>
    html`
      <div>
        <h3>${name}</h3>
        <blockquote>${text}</blockquote>
      </div>
    `;
  const ends = pair &&
    html`<div class="pair">${text("Before training", pair.before)}${
      text("After training", pair.after)
    }</div>`;
  const newest = written.slice(-MAX_SAMPLES).toReversed();
  const during = newest.length > 0 &&
    html`<div class="scroll samples" tabindex="0" role="group" aria-label="Texts by step">${
      newest.map(({ step, text: said }) => text(step === 0 ? "Before training" : `Step ${step}`, said))
    }</div>`;
  return html`<section><h2>Generated text</h2>${ends || ""}${during || ""}</section>`;
}

/** What was measured on sets while the model trained: a plot, and a table with the newest first. */
async function evaluations(list: NonNullable<RunReport["evaluations"]>): Promise<Part> {
  if (list.length === 0) return "";
  const plot = await evaluationPlot(list), rows = list.slice(-MAX_EVALUATIONS).toReversed();
  const names = [...new Set(rows.flatMap(({ metrics }) => Object.keys(metrics)))];
  const named = rows.some(({ set }) => set !== undefined);
  const valueOf = (metrics: typeof rows[number]["metrics"], name: string): number =>
    Object.hasOwn(metrics, name) ? metrics[name] ?? NaN : NaN;
  const table = html`
    <div class="scroll" tabindex="0" role="group" aria-label="Evaluation, step by step">
      <table>
        <thead>
          <tr><th scope="col">After step</th>${named ? html`<th scope="col">Set</th>` : ""}${names.map((
            name,
          ) => html`<th scope="col">${name}</th>`)}</tr>
        </thead>
        <tbody>${rows.map(({ step, set, metrics }) =>
          html`<tr><th scope="row">${step}</th>${named ? html`<td>${set ?? ""}</td>` : ""}${
            names.map((name) => html`<td>${short(valueOf(metrics, name), 4)}</td>`)
          }</tr>`
        )}</tbody>
      </table>
    </div>
  `;
  if (plot === null) return html`<section><h2>Evaluation</h2>${table}</section>`;
  const sets = plot.sets.map((set, i) => html`<span>${strokeMark(i)} ${set}</span>`);
  return figure("Evaluation", plot, {
    ...named && { legend: html`<p class="legend">${sets}</p>` },
    table: html`<details><summary>As a table</summary>${table}</details>`,
  });
}

/** A plot, where there is one. */
export function drawn(title: string, plot: Plot | null): Part {
  return plot === null ? "" : figure(title, plot);
}

/** A plot, with its caption. */
export function figure(
  title: string,
  { svg, caption }: Plot,
  extras: { legend?: Html; table?: Html } = {},
): Html {
  const image = raw(svg.replace(
    "<svg ",
    html`
      <svg role="img" aria-label="${title}, step by step. ${caption}"
    `.text,
  ));
  return html`<section><h2>${title}</h2><figure>${
    extras.legend ?? ""
  }<div class="plot" tabindex="0" role="group" aria-label="${title}">${image}</div>
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
      <div class="scroll" tabindex="0" role="group" aria-label="Components">
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
  return figure("Freezing", plot, { legend: raw(freezeLegend(plot)), table });
}
