/**
 * The tables of a report about freezing.
 *
 * @module
 */

import { counted } from "../counted.ts";
import type { FreezeEvent } from "../train/types.ts";
import { type Html, html, type Part } from "./html.ts";
import { scaled, short } from "./numbers.ts";
import type { Change, RunReport } from "./types.ts";

const MAX_EVENTS = 200;
const MAX_NAMES = 40;
const MAX_REASONS = 600;
const COSTS = [
  ["Launches", "launches", ""],
  ["FLOPs", "flops", ""],
  ["FLOPs of matmul", "matmulFlops", ""],
  ["Memory traffic", "bytes", "B"],
  ["Memory of intermediate values", "memory", "B"],
  ["Given to other ranks", "exchanged", "B"],
] as const;

/**
 * Shows each change of the frozen set and what a step costs from then on.
 *
 * @param events The changes, at least one
 * @param changes What is known of each beyond that, in the same order
 * @returns A section
 */
export function eventTable(
  events: readonly Omit<FreezeEvent, "reasons">[],
  changes: readonly Change[],
): Html {
  const known = COSTS.filter(([, key]) =>
    key !== "exchanged" || events.some(({ before }) => before[key] !== undefined)
  );
  const costs = ({ before, after }: Pick<FreezeEvent, "before" | "after">) =>
    known.map(([, key, unit]) => change(before[key] ?? 0, after[key] ?? 0, unit));
  const times = (before: number | null | undefined, after: number | null | undefined): Html =>
    after == null ? html`<td>–</td>` : change(before ?? after, after, "ms");
  const ends = html`<td colspan="${known.length + 1}">training ended</td>`;
  const rows = events.slice(0, MAX_EVENTS).map((event, i) =>
    html`<tr><th scope="row">${event.step}</th>
<td>${names("froze", event.frozen)}${names("thawed", event.thawed)}</td>${
      event.after.launches === 0
        ? ends
        : [...costs(event), times(changes[i]?.before.stepMs, changes[i]?.after.stepMs)]
    }</tr>`
  );
  const rest = events.length > MAX_EVENTS
    ? html`
      <tr>
        <th scope="row">…</th>
        <td>and ${counted(events.length - MAX_EVENTS, "more change")}</td>
      </tr>
    `
    : "";
  const end = events[events.length - 1], ended = end.after.launches === 0 ? "before" : "after";
  const total = [
    ...costs({ before: events[0].before, after: end[ended] }),
    times(changes[0]?.before.stepMs, changes.at(-1)?.[ended].stepMs),
  ];
  return html`
    <section>
      <h2>What each freeze saved</h2>
      <div class="scroll" tabindex="0" role="group" aria-label="What each freeze saved">
        <table class="events">
          <thead>
            <tr><th scope="col">After step</th><th scope="col">Components</th>${known.map(([name]) =>
              html`<th scope="col">${name}</th>`
            )}<th scope="col">Measured</th></tr>
          </thead>
          <tbody>${rows}${rest}</tbody>
          <tfoot>
            <tr><th scope="row">All</th><td></td>${total}</tr>
          </tfoot>
        </table>
      </div>
    </section>
  `;
}

/**
 * Shows why each component was frozen, and what its own gradient costs in a step.
 *
 * @param changes The changes of the frozen set
 * @returns A section; nothing where the log says neither
 */
export function reasonTable(changes: readonly Change[]): Part {
  const moves = changes.flatMap(({ step, frozen, thawed }) => [
    ...frozen.map((moved) => ({ step, moved, thawed: false })),
    ...thawed.map((moved) => ({ step, moved, thawed: true })),
  ]);
  if (moves.every(({ moved }) => moved.reason === null && moved.flops === null)) return "";
  const full = changes[0].before.cost.matmulFlops;
  const number = (value: number | null | undefined): string => value == null ? "–" : short(value, 4);
  const rows = moves.slice(0, MAX_REASONS).map(
    ({ step, moved: { path, reason, flops, heldFor }, thawed }) => {
      const cells = thawed
        ? html`
          <td>thawed${heldFor === undefined ? "" : ` after ${counted(heldFor, "step")}`}</td>
          <td></td>
          <td></td>
        `
        : html`
          <td>${reason?.signal ?? "–"}</td>
          <td>${number(reason?.value)}</td>
          <td>${number(reason?.threshold)}</td>
        `;
      const share = flops === null || full === 0 ? "" : html`
        <small>${(100 * flops / full).toFixed(1)} %</small>
      `;
      return html`<tr><th scope="row">${step}</th><td>${path}</td>${cells}
<td>${flops === null ? "–" : scaled(flops).trim()}${share}</td><td>${
        thawed ? "" : reason?.rule ?? "–"
      }</td></tr>`;
    },
  );
  const rest = moves.length > MAX_REASONS
    ? html`
      <tr>
        <th scope="row">…</th>
        <td>and ${moves.length - MAX_REASONS} more</td>
      </tr>
    `
    : "";
  const names = ["After step", "Component", "Signal", "Value", "Threshold", "FLOPs of its gradient", "Rule"];
  return html`
    <section>
      <h2>Why each component froze</h2>
      <div class="scroll" tabindex="0" role="group" aria-label="Why each component froze">
        <table class="reasons">
          <thead>
            <tr>${names.map((name) => html`<th scope="col">${name}</th>`)}</tr>
          </thead>
          <tbody>${rows}${rest}</tbody>
        </table>
      </div>
    </section>
  `;
}

/**
 * Shows why each component of a run was frozen, for a page of your own.
 *
 * @param run The run so far
 * @returns HTML in which all that comes from the run is escaped; empty where nothing froze or the log does not say why
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { reasonsHtml } from "@firn/train/report";
 *
 * assertEquals(reasonsHtml({ changes: [] }), "");
 * ```
 */
export function reasonsHtml({ changes = [] }: Pick<RunReport, "changes">): string {
  return changes.length === 0 ? "" : html`${reasonTable(changes)}`.text;
}

function names(label: string, paths: readonly string[]): Part {
  if (paths.length === 0) return "";
  if (paths.length === 1) return html`<div>${label} ${paths[0]}</div>`;
  const list = paths.slice(0, MAX_NAMES).map((path) => html`<div>${path}</div>`);
  if (paths.length > MAX_NAMES) list.push(html`<div>and ${paths.length - MAX_NAMES} more</div>`);
  return html`<details><summary>${label} ${paths.length}</summary>${list}</details>`;
}

/** What a step costs now, and how that compares with before. */
function change(before: number, after: number, unit: string): Html {
  const percent = before === 0 ? 0 : Math.round(1000 * (after / before - 1)) / 10;
  const sign = percent > 0 ? "+" : percent < 0 ? "−" : "±";
  return html`<td>${`${scaled(after)}${unit}`.trim()} <small>${sign}${Math.abs(percent)} %</small></td>`;
}
