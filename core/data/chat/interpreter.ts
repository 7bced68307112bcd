/**
 * Runs templates of strangers: within limits, without access to anything, and with the results of Python where those of the
 * library differ.
 *
 * @module
 */

import { type Environment, Interpreter } from "@huggingface/jinja";
import { DataError } from "../../errors.ts";
import { stripped, textOf, type Value } from "./python_text.ts";

/** How much a template may do. */
export interface TemplateLimits {
  /** Nodes that are evaluated, and entries of lists that are made. */
  readonly steps: number;
  /** Characters of its text, and of any other. */
  readonly characters: number;
}

/** A node of a template. */
interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** What the library leaves to those who extend it. Its types call the rest private. */
interface Base {
  run(program: unknown): Value;
  evaluate(node: Node | undefined, environment: Environment): Value;
  evaluateArguments(args: unknown, environment: Environment): [Value[], Map<string, Value>];
  applyFilter(operand: Value, filter: Node, environment: Environment): Value;
}

const Parent = Interpreter as unknown as new (environment: Environment) => Base;

/** Nodes that print nothing themselves, or the text of what they hold. */
const STATEMENTS: ReadonlySet<string> = new Set(
  [
    "Program",
    "Set",
    "If",
    "For",
    "Macro",
    "CallStatement",
    "FilterStatement",
    "Comment",
    "Break",
    "Continue",
  ],
);

/** Nodes that make values, and so take memory. */
const MAKERS: ReadonlySet<string> = new Set(
  [
    "CallExpression",
    "FilterExpression",
    "BinaryExpression",
    "ArrayLiteral",
    "MemberExpression",
    "SelectExpression",
  ],
);

/** Methods that leave out characters at the ends of a text. */
const STRIPS: ReadonlyMap<string, { readonly start: boolean; readonly end: boolean }> = new Map([
  ["strip", { start: true, end: true }],
  ["lstrip", { start: true, end: false }],
  ["rstrip", { start: false, end: true }],
]);

/** Filters of texts, which take any value by its text. */
const TEXT_FILTERS: ReadonlySet<string> = new Set(
  ["string", "trim", "upper", "lower", "replace", "title", "capitalize"],
);

/** An interpreter that counts. */
export class LimitedInterpreter extends Parent {
  #steps = 0;
  #characters = 0;
  readonly #limits: TemplateLimits;
  readonly #make: (text: string) => Value;
  /** Bodies of loops, and what the last turns of those that run had printed when they were left. */
  readonly #bodies = new Set<unknown>();
  readonly #left: string[] = [];
  /** What loops run over: the library prepares a turn for each entry, used or not. */
  readonly #iterated = new Set<unknown>();
  /** How a turn of a loop is being left, and what it had printed. */
  #control: { readonly kind: string; readonly text: string } | null = null;

  /** Takes the variables, the limits, and what makes a value of a text. */
  constructor(
    environment: Environment,
    { limits, make }: { readonly limits: TemplateLimits; readonly make: (text: string) => Value },
  ) {
    super(environment);
    this.#limits = limits;
    this.#make = make;
  }

  /** Evaluates a node. */
  override evaluate(node: Node | undefined, environment: Environment): Value {
    if (node?.type === "Known") return node.value as Value;
    this.#count(1, 0);
    const result = this.#evaluate(node, environment);
    if (this.#iterated.has(node)) this.#look(result);
    if (node !== undefined && MAKERS.has(node.type)) {
      const { value } = result;
      if (typeof value === "string") this.#count(0, value.length);
      else if (Array.isArray(value)) this.#count(value.length, 0);
    }
    return result;
  }

  /** Joins what nodes print. */
  evaluateBlock(nodes: readonly Node[], environment: Environment): Value {
    let text = "";
    try {
      for (const node of nodes) {
        const value = this.evaluate(node, environment);
        const printed = STATEMENTS.has(node.type)
          ? value.type === "StringValue" ? value.value as string : ""
          : this.#textOf(value);
        text += printed;
        if (text.length > this.#limits.characters) this.#stop(`${this.#limits.characters} characters`);
      }
    } catch (error) {
      // The library loses what a turn of a loop printed before "break" or "continue".
      if (this.#control === null) throw error;
      const printed = text + this.#control.text, { kind } = this.#control;
      this.#control = this.#bodies.has(nodes) ? null : { kind, text: printed };
      if (this.#control !== null) throw error;
      if (kind === "Continue") return this.#make(printed);
      this.#left[this.#left.length - 1] += printed;
      throw error;
    }
    return this.#make(text);
  }

  #evaluate(node: Node | undefined, environment: Environment): Value {
    if (node?.type === "Break" || node?.type === "Continue") this.#control = { kind: node.type, text: "" };
    if (node?.type === "For") return this.#loop(node, environment);
    if (node?.type === "CallExpression") {
      const called = this.#method(node, environment);
      if (called !== null) return called;
    }
    if (node?.type === "FilterExpression") {
      const filtered = this.#filter(node, environment);
      if (filtered !== null) return filtered;
    }
    if (node?.type === "BinaryExpression") return this.#binary(node, environment);
    return super.evaluate(node, environment);
  }

  #binary(node: Node, environment: Environment): Value {
    const { value: operator } = node.operator as { readonly value: string };
    if (operator === "and" || operator === "or") return super.evaluate(node, environment);
    const sides = [node.left, node.right].map((side) => this.evaluate(side as Node, environment));
    if (operator === "~") {
      const [left, right] = sides.map((side) => this.#textOf(side));
      this.#count(0, left.length + right.length);
      return this.#make(left + right);
    }
    // A text and a list make a text; what is looked for is compared with every entry.
    if (operator.endsWith("in")) this.#look(sides[1]);
    else if (operator === "+" && sides.some(({ type }) => type === "StringValue")) {
      sides.forEach((side) => this.#weigh(side));
    }
    const [left, right] = sides.map((value) => ({ type: "Known", value }));
    return super.evaluate({ ...node, left, right }, environment);
  }

  /** Applies a filter. Some write out all that a value holds, which may be the same value many times. */
  override applyFilter(operand: Value, filter: Node, environment: Environment): Value {
    const { value: name } = (filter.type === "CallExpression" ? filter.callee : filter) as Node;
    if (name === "tojson" || name === "join") this.#weigh(operand);
    else this.#look(operand);
    return super.applyFilter(operand, filter, environment);
  }

  /** Counts the entries of a value. */
  #look(value: Value): void {
    if (value.type === "StringValue") this.#count(0, (value.value as string).length);
    else this.#count(entriesOf(value), 0);
  }

  #textOf(value: Value): string {
    this.#weigh(value);
    return textOf(value);
  }

  /** Counts what a value holds, through all levels. */
  #weigh(value: Value): void {
    this.#look(value);
    const { value: held } = value;
    if (Array.isArray(held) || held instanceof Map) {
      for (const one of held.values() as Iterable<Value>) this.#weigh(one);
    }
  }

  #loop(node: Node, environment: Environment): Value {
    this.#bodies.add(node.body);
    const over = node.iterable as Node;
    this.#iterated.add(over.type === "SelectExpression" ? over.lhs : over);
    this.#left.push("");
    const { value } = super.evaluate(node, environment);
    return this.#make(value as string + this.#left.pop()!);
  }

  /** Methods of texts that the library does otherwise, or without limits; null for all others. */
  #method(node: Node, environment: Environment): Value | null {
    const callee = node.callee as Node, property = callee.property as Node | undefined;
    if (callee.type !== "MemberExpression" || callee.computed === true || property?.type !== "Identifier") {
      return null;
    }
    const name = property.value as string, strip = STRIPS.get(name), args = node.args as readonly Node[];
    if (!(strip !== undefined && args.length > 0) && name !== "replace" && name !== "capitalize") return null;
    const object = this.evaluate(callee.object as Node, environment);
    const [values, named] = this.evaluateArguments(args, environment);
    if (object.type !== "StringValue") throw new Error(`"${name}" is a method of texts`);
    const text = object.value as string;
    if (name === "capitalize") return this.#make(capitalized(text));
    if (strip !== undefined) {
      const [{ type, value }] = values;
      if (type !== "StringValue" && type !== "NullValue") throw new Error(`"${name}" takes a text`);
      return this.#make(stripped(text, { ...strip, characters: value as string ?? " \t\n\r\x0b\f" }));
    }
    return this.#replace(text, [values, named]);
  }

  /** Filters of texts; null for all others. */
  #filter(node: Node, environment: Environment): Value | null {
    const filter = node.filter as Node, called = filter.type === "CallExpression";
    const { type, value: name } = (called ? filter.callee : filter) as Node;
    if (type !== "Identifier" || !TEXT_FILTERS.has(name as string)) return null;
    const text = this.#textOf(this.evaluate(node.operand as Node, environment));
    if (name === "string") return this.#make(text);
    if (name === "capitalize") return this.#make(capitalized(text));
    if (name === "title") return this.#make(text.split(/([-\s({[<]+)/).map(capitalized).join(""));
    if (name === "replace" && called) {
      return this.#replace(text, this.evaluateArguments(filter.args, environment));
    }
    return this.applyFilter(this.#make(text), filter, environment);
  }

  #replace(text: string, [values, named]: readonly [readonly Value[], ReadonlyMap<string, Value>]): Value {
    const [old, other] = values.map((value) => textOf(value));
    if (old === undefined || other === undefined) throw new Error('"replace" takes two texts');
    const times = old === "" ? text.length + 1 : text.split(old).length - 1;
    this.#count(0, text.length + times * other.length);
    const count = (named.get("count") ?? values[2])?.value;
    return this.#make(
      replaced(text, { old, other, limit: typeof count === "number" && count >= 0 ? count : Infinity }),
    );
  }

  #count(steps: number, characters: number): void {
    this.#steps += steps;
    this.#characters += characters;
    if (this.#steps > this.#limits.steps) this.#stop(`${this.#limits.steps} steps`);
    if (characters > this.#limits.characters || this.#characters > 16 * this.#limits.characters) {
      this.#stop(`${this.#limits.characters} characters`);
    }
  }

  #stop(limit: string): never {
    throw new DataError(`a template may take ${limit}: it takes more`);
  }
}

/** Entries of a list or an object. */
function entriesOf({ value }: Value): number {
  return Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0;
}

function replaced(
  text: string,
  { old, other, limit }: { readonly old: string; readonly other: string; readonly limit: number },
): string {
  const parts = old === "" ? ["", ...text, ""] : text.split(old);
  if (parts.length - 1 <= limit) return parts.join(other);
  return parts.slice(0, limit + 1).join(other) + old + parts.slice(limit + 1).join(old);
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).toLowerCase();
}
