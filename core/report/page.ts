/**
 * What all pages have in common: language, style, and that nothing comes from elsewhere.
 *
 * @module
 */

import { type Html, html, type Part, raw } from "./html.ts";
import { STYLE, SVG_DEFS } from "./style.ts";

/** What a page may do besides showing its own style: nothing, unless a server adds to it. */
export const POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";

/**
 * Makes a page of its body.
 *
 * @param parts Title, body, what stands in the head beside both, and what the page may do; `POLICY` when absent
 * @returns The page, HTML
 */
export function pageOf(
  { title, body, head = "", policy = POLICY }: {
    readonly title: string;
    readonly body: Html;
    readonly head?: Part;
    readonly policy?: string;
  },
): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta http-equiv="Content-Security-Policy" content="${raw(policy)}">
        <title>${title}</title>
        <style>${raw(STYLE)}</style>${head}
      </head>
      <body>
        <svg width="0" height="0" aria-hidden="true" style="position:absolute">
          ${raw(SVG_DEFS)}
        </svg>
        ${body}
      </body>
    </html>
  `.text.trimStart();
}
