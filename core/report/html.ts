/**
 * HTML as tagged templates with escaped values.
 *
 * @module
 */

/** Text that is HTML. */
export interface Html {
  readonly text: string;
}

/** A value that {@link html} inserts. */
export type Part = string | number | Html | readonly Part[];

/** Marks text as HTML, which is not escaped. */
export function raw(text: string): Html {
  return { text };
}

/** Inserts values into HTML. All values are escaped, except {@link Html}. */
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
