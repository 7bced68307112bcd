/**
 * Elementwise expressions and their WGSL: shared by fused kernels, reductions and epilogues of matrix products.
 *
 * @module
 */

import { f32 } from "./kernel.ts";

/** A buffer that an expression reads. */
export interface Operand {
  /** Element type of the buffer; loads convert it to f32. */
  readonly type: "f32" | "i32" | "u32" | "f16";
  /** Stride, in elements, along each dimension of the iteration space; 0 broadcasts. */
  readonly strides: readonly number[];
}

/** One value of an expression; other steps refer to it by its index. */
export type Step =
  | { readonly kind: "load"; readonly input: number }
  | { readonly kind: "scalar"; readonly input: number; readonly index: number }
  | { readonly kind: "constant"; readonly value: number }
  /** The sum of `count` values of a contiguous input, `size` elements apart. */
  | { readonly kind: "partials"; readonly input: number; readonly count: number; readonly size: number }
  | { readonly kind: "given"; readonly name: string }
  | {
    readonly kind: "compute";
    readonly text: (args: readonly string[], type: string) => string;
    readonly args: readonly number[];
  };

/** A straight-line program over one element (or four neighbours) of an iteration space. */
export interface Expression {
  /** The iteration space, row-major. */
  readonly shape: readonly number[];
  /** Buffers; `load` and `scalar` steps point into them. */
  readonly inputs: readonly Operand[];
  /** Values in dependency order. */
  readonly steps: readonly Step[];
}

/** How an expression is written out. */
export interface Rendering {
  /** Neighbouring elements that one value holds. */
  readonly lanes: 1 | 4;
  /** WGSL element type of each input's array. */
  readonly types: readonly string[];
  /** WGSL statements that define `v0`, `v1`, ... for the element (group of four) number `index`. */
  body(index: string): string;
}

/**
 * Merges neighbouring dimensions that are contiguous in every operand, to save divisions in the shader.
 *
 * @param expression The expression
 * @returns The same expression over as few dimensions as possible
 */
function collapse(expression: Expression): Expression {
  const shape: number[] = [], strides: number[][] = expression.inputs.map(() => []);
  expression.shape.forEach((size, d) => {
    const last = shape.length - 1;
    const merges = last >= 0 && strides.every((s, k) => s[last] === expression.inputs[k].strides[d] * size);
    if (merges) shape[last] *= size;
    else shape.push(size);
    strides.forEach((s, k) => {
      const stride = expression.inputs[k].strides[d];
      if (merges) s[last] = stride;
      else s.push(stride);
    });
  });
  return { ...expression, shape, inputs: expression.inputs.map((o, k) => ({ ...o, strides: strides[k] })) };
}

/**
 * Writes the WGSL of an expression.
 *
 * @param source The expression
 * @param options `lanes`: 4 asks for groups of four, which an operand may not allow; `nameOf`: the name of an
 * input's array, `a0`, `a1`, ... when absent
 * @returns Its rendering
 */
export function render(
  source: Expression,
  options: { readonly lanes: 1 | 4; readonly nameOf?: (input: number) => string },
): Rendering {
  const expression = collapse(source);
  const { shape, inputs, steps } = expression;
  const nameOf = options.nameOf ?? ((input: number): string => `a${input}`);
  const rank = shape.length;
  const total = shape.reduce((n, d) => n * d, 1);
  const contiguous = inputs.map((o) => isContiguous(shape, o.strides));
  const single = inputs.map((o) => o.strides.every((s, d) => s === 0 || shape[d] === 1));
  const allFlat = inputs.every((_, k) => contiguous[k] || single[k]);
  const quads = inputs.every((o, k) =>
    contiguous[k] || single[k] || o.strides[rank - 1] === 0 ||
    (o.strides[rank - 1] === 1 && o.strides.slice(0, -1).every((s) => s % 4 === 0))
  );
  // A flat space may end within a group of four, as buffers are padded to 16 bytes.
  const lanes = options.lanes === 4 && (allFlat || (shape[rank - 1] % 4 === 0 && quads)) && total > 1 ? 4 : 1;
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const wide = inputs.map((o, k) =>
    lanes === 4 && !single[k] && (contiguous[k] || o.strides[rank - 1] === 1) && !isScalarRead(steps, k)
  );
  const types = inputs.map((o, k) => wide[k] ? `vec4<${o.type}>` : o.type);

  function body(index: string): string {
    const lines: string[] = [];
    if (!allFlat) {
      lines.push(`var r = ${index}${lanes === 4 ? " * 4u" : ""};`);
      for (let d = rank - 1; d >= 0; d--) {
        lines.push(d === 0 ? `let x0 = r;` : `let x${d} = r % ${shape[d]}u; r = r / ${shape[d]}u;`);
      }
    }
    // Loads come first, so that they overlap: not every compiler moves them.
    const texts = steps.map((step, n) => `${bitsOf(step, n)}let v${n} = ${value(step, n)};`);
    lines.push(...texts.filter((_, n) => isLoad(steps[n])), ...texts.filter((_, n) => !isLoad(steps[n])));
    return lines.join("\n");

    function value(step: Step, n: number): string {
      switch (step.kind) {
        case "constant":
          return `${type}(${isFinite32(step) ? f32(step.value) : `bitcast<f32>(bits${n})`})`;
        case "given":
          return step.name;
        case "compute":
          return step.text(step.args.map((a) => `v${a}`), type);
        case "scalar":
          return `${type}(f32(${nameOf(step.input)}[${step.index}u]))`;
        case "load":
          return load(step.input);
        case "partials":
          return Array.from(
            { length: step.count },
            (_, i) => `${nameOf(step.input)}[${index} + ${i * step.size / lanes}u]`,
          ).join(" + ");
      }
    }

    function load(k: number): string {
      const { type: element, strides } = inputs[k];
      const convert = (text: string): string =>
        element === "f32" ? text : wide[k] ? `vec4<f32>(${text})` : `f32(${text})`;
      if (single[k]) return `${type}(${convert(`${nameOf(k)}[0]`)})`;
      if (contiguous[k]) return convert(`${nameOf(k)}[${index}]`);
      const terms = strides.flatMap((s, d) =>
        s === 0 || shape[d] === 1 ? [] : [wide[k] ? quarter(d, s) : s === 1 ? `x${d}` : `x${d} * ${s}u`]
      );
      const text = convert(`${nameOf(k)}[${terms.join(" + ")}]`);
      return wide[k] || lanes === 1 ? text : `${type}(${text})`;
    }

    /** The offset along a dimension, in groups of four. */
    function quarter(d: number, stride: number): string {
      return d === rank - 1 ? `x${d} / 4u` : `x${d} * ${stride / 4}u`;
    }
  }

  return { lanes, types, body };
}

/** Declares what the value of a constant step is read from: WGSL has no infinite constants, and no constant that is NaN. */
function bitsOf(step: Step, n: number): string {
  if (step.kind !== "constant" || isFinite32(step)) return "";
  return `var bits${n} = ${new Uint32Array(Float32Array.of(step.value).buffer)[0]}u; `;
}

function isFinite32({ value }: Extract<Step, { kind: "constant" }>): boolean {
  return Number.isFinite(Math.fround(value));
}

function isLoad({ kind }: Step): boolean {
  return kind === "load" || kind === "partials";
}

function isScalarRead(steps: readonly Step[], input: number): boolean {
  return steps.some((s) => s.kind === "scalar" && s.input === input);
}

/** Whether strides are those of a row-major layout. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && strides[d] !== expected) return false;
    expected *= shape[d];
  }
  return true;
}
