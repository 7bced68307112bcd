/**
 * HTML as tagged templates that escape what they interpolate.
 *
 * @module
 */

/** Text that is HTML already. */
export interface Html {
  readonly text: string;
}

/** What {@link html} interpolates. */
export type Part = string | number | Html | readonly Part[];

/** Takes text as HTML. */
export function raw(text: string): Html {
  return { text };
}

/** Escapes what it interpolates, unless that is {@link Html} itself. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return raw(strings.map((text, i) => i === 0 ? text : escape(parts[i - 1]) + text).join(""));
}

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escape(part: Part): string {
  if (typeof part === "string") return part.replace(/[&<>"']/g, (character) => ENTITIES[character]);
  if (typeof part === "number") return String(part);
  return "text" in part ? part.text : part.map(escape).join("");
}
