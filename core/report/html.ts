/**
 * HTML as tagged templates with escaped values.
 *
 * @module
 */

/** Text that is HTML. A class, so that no record of a log passes for one. */
export class Html {
  readonly #text: string;

  /** Marks text as HTML. */
  constructor(text: string) {
    this.#text = text;
  }

  /** The text. */
  get text(): string {
    return this.#text;
  }
}

/** A value that {@link html} inserts. */
export type Part = string | number | Html | readonly Part[];

/** Marks text as HTML, which is not escaped. */
export function raw(text: string): Html {
  return new Html(text);
}

/** Inserts values into HTML. All values are escaped, except {@link Html}. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return raw(strings.map((text, i) => i === 0 ? text : escaped(parts[i - 1]) + text).join(""));
}

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** HTML of a value as {@link html} inserts it. */
export function escaped(part: Part): string {
  if (typeof part === "string") return part.replace(/[&<>"']/g, (character) => ENTITIES[character]);
  if (part instanceof Html) return part.text;
  if (Array.isArray(part)) return part.map(escaped).join("");
  // What comes from a log may be anything.
  return escaped(String(part));
}
