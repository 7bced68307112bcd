/**
 * The text of a kernel taken apart, so that it can become part of another one.
 *
 * @module
 */

/** A storage buffer of a kernel. */
export interface Binding {
  readonly name: string;
  readonly type: string;
  readonly access: "read" | "read_write";
}

/** A name with its type: an array in workgroup memory, or a parameter of `main`. */
export interface Typed {
  readonly name: string;
  readonly type: string;
}

/** The parts of a kernel's text. */
export interface TextParts {
  /** `enable`, `requires` and `diagnostic` lines. */
  readonly directives: readonly string[];
  readonly bindings: readonly Binding[];
  readonly memory: readonly Typed[];
  readonly structs: readonly { readonly name: string; readonly fields: string }[];
  /** Functions and constants, without `main`. */
  readonly functions: string;
  /** Names of them. */
  readonly names: readonly string[];
  /** Threads of a workgroup in x, y and z. */
  readonly threads: readonly [number, number, number];
  /** The parameters of `main`, each with the name of its builtin value. */
  readonly parameters: readonly (Typed & { readonly builtin: string })[];
  /** The statements of `main`. */
  readonly body: string;
}

const DIRECTIVE = /\b(?:(?:enable|requires)\s[\w\s,]+|diagnostic\s*\([^;]*\)\s*);/g;
const BINDING = /@group\(0\)\s*@binding\(\d+\)\s*var<storage,\s*(read_write|read)>\s*(\w+)\s*:\s*([^;]+);/g;
const MEMORY = /\bvar<workgroup>\s*(\w+)\s*:\s*([^;]+);/g;
const STRUCT = /\bstruct\s+(\w+)\s*\{([^}]*)\}\s*;?/g;
const MAIN = /@compute\s+@workgroup_size\(([^)]*)\)\s*fn\s+main\(((?:[^()]|\([^()]*\))*)\)\s*\{/;
const PARAMETER = /@builtin\((\w+)\)\s*(\w+)\s*:\s*(vec3<u32>|vec3u|u32)/g;
const NAMED = /\b(?:fn|const|alias|override|var(?:<[^>]*>)?)\s+(\w+)/g;

/**
 * Takes the text of a kernel apart.
 *
 * @param code WGSL with storage buffers in the order of their bindings, and the entry point `main`
 * @returns Its parts; null when the text has another form, or a struct within a struct
 */
export function textParts(code: string): TextParts | null {
  const main = MAIN.exec(code);
  if (main === null) return null;
  const start = main.index + main[0].length, end = endOfBlock(code, start);
  const outside = code.slice(0, main.index) + code.slice(end + 1);
  const functions = [DIRECTIVE, BINDING, MEMORY, STRUCT].reduce(
    (text, part) => text.replace(part, ""),
    outside,
  );
  const threads = main[1].split(",").map((n) => Number(n));
  const structs = [...outside.matchAll(STRUCT)].map(([, name, fields]) => ({ name, fields: fields.trim() }));
  const isNested = structs.some(({ name }) => structs.some(({ fields }) => fields.includes(name)));
  if (
    isNested || threads.some(Number.isNaN) ||
    /@binding|\bvar<(?:private|uniform)|\boverride\b/.test(functions)
  ) {
    return null;
  }
  return {
    directives: [...outside.matchAll(DIRECTIVE)].map(([line]) => line.trim()),
    bindings: [...outside.matchAll(BINDING)].map(([, access, name, type]) => ({
      access: access as Binding["access"],
      name,
      type: type.trim(),
    })),
    memory: [...outside.matchAll(MEMORY)].map(([, name, type]) => ({ name, type: type.trim() })),
    structs,
    functions: functions.trim(),
    names: [...outermost(functions).matchAll(NAMED)].map(([, name]) => name),
    threads: [threads[0], threads[1] ?? 1, threads[2] ?? 1],
    parameters: [...main[2].matchAll(PARAMETER)].map(([, builtin, name, type]) => ({ builtin, name, type })),
    body: code.slice(start, end).trim(),
  };
}

/** Index of the brace that closes a block which begins before `start`. */
function endOfBlock(code: string, start: number): number {
  let depth = 1, at = start;
  for (; depth > 0 && at < code.length; at++) depth += code[at] === "{" ? 1 : code[at] === "}" ? -1 : 0;
  return at - 1;
}

/** The text outside of all blocks. */
function outermost(code: string): string {
  let text = "";
  for (let at = 0; at < code.length;) {
    const open = code.indexOf("{", at);
    if (open < 0) return text + code.slice(at);
    text += code.slice(at, open);
    at = endOfBlock(code, open + 1) + 1;
  }
  return text;
}

/** Gives names in a text other ones; what follows a point is a member, and keeps its name. */
export function renamed(text: string, names: ReadonlyMap<string, string>): string {
  return text.replace(/(?<![\w.])[A-Za-z_]\w*/g, (name) => names.get(name) ?? name);
}

/** The type of a variable in workgroup memory. */
export interface ArrayType {
  /** The innermost type; the fields of a struct. */
  readonly element: string;
  /** Bytes of an element, or a few more; Infinity for a type that is not known. */
  readonly bytes: number;
  /** Elements of each array, the outermost one first; none for a single value. */
  readonly sizes: readonly number[];
}

/**
 * Reads the type of a variable in workgroup memory.
 *
 * @param type WGSL
 * @param structs The structs of its kernel
 * @returns The type
 */
export function arrayType(type: string, structs: TextParts["structs"]): ArrayType {
  const sizes: number[] = [];
  let element = type.replaceAll(/\s/g, "");
  for (let array; (array = /^array<(.+),(\d+)u?>$/.exec(element)) !== null; element = array[1]) {
    sizes.push(Number(array[2]));
  }
  const struct = structs.find(({ name }) => name === element);
  return { element: struct?.fields ?? element, bytes: bytesOf(element, structs), sizes };
}

/** Bytes of all elements. */
export function bytesOfArray({ bytes, sizes }: ArrayType): number {
  return sizes.reduce((n, size) => n * size, bytes);
}

function bytesOf(type: string, structs: TextParts["structs"]): number {
  const vector = /^vec([234])(?:<(\w+)>|[fiuh])$/.exec(type);
  if (vector !== null) return (vector[1] === "2" ? 2 : 4) * (vector[2] === "f16" ? 2 : 4);
  if (/^(?:f32|u32|i32|f16|atomic<[iu]32>)$/.test(type)) return 4;
  const fields = structs.find(({ name }) => name === type)?.fields;
  if (fields === undefined) return Infinity;
  const bytes = fields.split(/,(?![^<]*>)/).filter((field) => field.includes(":"))
    .reduce((n, field) => n + bytesOfArray(arrayType(field.slice(field.indexOf(":") + 1), structs)), 0);
  return Math.ceil(bytes / 16) * 16;
}
