/**
 * The repository's TypeScript files as text, and what every rule of the architecture needs to read them.
 *
 * @module
 */

/** One TypeScript file. */
export interface Source {
  /** From the root of the repository: `core/grad.ts`. */
  readonly path: string;
  readonly text: string;
  /** The text with comments blanked; every other character keeps its line and column. */
  readonly code: string;
  /** The code with strings blanked as well, and the lines that begin inside of a template. */
  readonly bare: string;
}

/** A line that breaks a rule. */
export interface Offence {
  readonly path: string;
  /** Counts from 1. */
  readonly line: number;
  readonly text: string;
}

/** The root of the repository. */
export const ROOT: URL = new URL("../../", import.meta.url);

// A quote inside a regular expression must not open a string: what may stand before a literal of one.
const BEFORE_REGEX = /(^|[(,=:[!&|?{};+<>~*%^-]|\b(return|typeof|case|of|in))\s*$/;

const PLAIN = /[^{}/"'`]*/y;
const SKIPPED = /^(\.|node_modules$|out$|fixtures$)/;

/** The path of every file of the repository, in order; hidden folders, outputs and fixtures are left out. */
export const FILES: readonly string[] = walk("");

/** Every TypeScript file of the repository. */
export const SOURCES: readonly Source[] = FILES.filter((path) => path.endsWith(".ts"))
  .map((path) => source(path, readText(path)));

/** What the package is made of: `kernels`, `core` and `policies`. */
export const LIBRARY: readonly Source[] = SOURCES.filter(({ path }) =>
  /^(kernels|core|policies)\//.test(path)
);

function walk(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].filter(({ name }) => !SKIPPED.test(name))
    .flatMap(({ name, isDirectory }) => isDirectory ? walk(`${folder}${name}/`) : `${folder}${name}`).sort();
}

/** Reads a file of the repository. */
export function readText(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

/** Makes a source of a path and its text. */
export function source(path: string, text: string): Source {
  return { path, text, code: blank(text), bare: blank(text, { strings: true }) };
}

/** Every line of the sources that matches a pattern, in their code or in their bare code. */
export function matches(
  sources: readonly Source[],
  pattern: RegExp,
  { of = "code" }: { of?: "code" | "bare" } = {},
): Offence[] {
  return sources.flatMap((source) => {
    const shown = source.code.split("\n");
    return source[of].split("\n").flatMap((line, i) =>
      pattern.test(line) ? [{ path: source.path, line: i + 1, text: shown[i].trim() }] : []
    );
  });
}

/** An offence as `path:line: text`, which terminals and editors open. */
export function print({ path, line, text }: Offence): string {
  return `${path}:${line}: ${text}`;
}

/**
 * Replaces comments by spaces, and with `strings` the text of strings and templates too. Line breaks stay; a line
 * that begins inside of a template is then blank as a whole, as its indentation says nothing.
 */
export function blank(text: string, { strings = false }: { strings?: boolean } = {}): string {
  let out = "", i = 0;
  const depths: number[] = []; // the count of open braces at each template's current ${
  let braces = 0;
  const copy = (end: number): void => {
    out += text.slice(i, end), i = end;
  };
  const cover = (end: number): void => {
    out += text.slice(i, end).replace(/[^\n]/g, " "), i = end;
  };
  const template = (): void => { // from behind ` or } to behind ${ or `
    let end = i;
    while (end < text.length && text[end] !== "`" && !text.startsWith("${", end)) {
      end += text[end] === "\\" ? 2 : 1;
    }
    if (strings) out += text.slice(i, end).replace(/[^\n]/g, " ").replaceAll("\n", "\r"), i = end;
    else copy(end);
    if (text[i] === "`") copy(i + 1);
    else depths.push(braces), copy(i + 2);
  };
  const literal = (pattern: RegExp): void => {
    pattern.lastIndex = i;
    const end = i + (pattern.exec(text)?.[0].length ?? 1);
    strings ? cover(end) : copy(end);
  };
  while (i < text.length) {
    const two = text.slice(i, i + 2), one = text[i];
    if (two === "//") cover(text.indexOf("\n", i) < 0 ? text.length : text.indexOf("\n", i));
    else if (two === "/*") cover(text.indexOf("*/", i) + 2);
    else if (one === '"') literal(/"(\\.|[^"\\\n])*"/y);
    else if (one === "'") literal(/'(\\.|[^'\\\n])*'/y);
    else if (one === "/" && BEFORE_REGEX.test(out.slice(out.lastIndexOf("\n") + 1))) {
      literal(/\/(\\.|\[(\\.|[^\]\\\n])*\]|[^/\\\n])+\/\w*/y);
    } else if (one === "`") copy(i + 1), template();
    else if (one === "}" && depths.at(-1) === braces) depths.pop(), copy(i + 1), template();
    else {
      braces += one === "{" ? 1 : one === "}" ? -1 : 0;
      PLAIN.lastIndex = i + 1;
      copy(i + 1 + (PLAIN.exec(text)?.[0].length ?? 0));
    }
  }
  return out.replace(/\r[^\n\r]*/g, (line) => `\n${" ".repeat(line.length - 1)}`);
}
