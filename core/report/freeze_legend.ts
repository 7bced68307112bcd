/**
 * What the colours of a freeze plot mean.
 *
 * @module
 */

import type { FreezeSpans } from "./freeze_spans.ts";
import { html } from "./html.ts";
import { short } from "./numbers.ts";

/**
 * Explains the colours of a freeze plot.
 *
 * @param spans What is drawn: decades on both sides of the threshold that colours cover; 0 without readings
 * @returns HTML of one paragraph; its page has a pattern of SVG with the id `frozen`
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { freezeLegend } from "@firn/train/report";
 *
 * assertStringIncludes(freezeLegend({ edge: 2 }), "100 τ");
 * ```
 */
export function freezeLegend({ edge }: Pick<FreezeSpans, "edge">): string {
  const swatch = (fill: string) =>
    html`
      <svg width="22" height="12" aria-hidden="true">
        <rect width="22" height="12" fill="${fill}" />
      </svg>
    `;
  const frozen = html`<span>${swatch("url(#frozen)")} frozen</span>`;
  if (edge === 0) {
    return html`<p class="legend"><span>${swatch("var(--heat5)")} trained</span>${frozen}</p>`.text;
  }
  const half = (from: number) => [0, 1, 2, 3, 4].map((i) => swatch(`var(--heat${from + i})`));
  return html`<p class="legend"><span>${short(10 ** -edge)} τ ${half(0)} τ ${half(5)} ${
    short(10 ** edge)
  } τ</span>
${frozen}</p>`.text;
}
