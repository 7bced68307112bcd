/**
 * Bindings that hold f16: values are widened to f32 as they are loaded and rounded as they are stored, and all arithmetic
 * between is of f32.
 *
 * @module
 */

/** Names of the bindings of a kernel that hold f16 instead of f32: `a0`, `o1`, ... */
export type F16Bindings = readonly string[];

/** What f16 holds at most is 65504; from here on it rounds to what it cannot hold. */
const OVERFLOW = "65520.0f";

/** An adapter may round a number that is too large to the largest instead of to infinity, which hides the overflow. */
const HEADER = `enable f16;
fn half(x: f32) -> f16 { return f16(select(x, x * 3.0e38f, abs(x) >= ${OVERFLOW})); }
fn half4(x: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(select(x, x * 3.0e38f, abs(x) >= vec4<f32>(${OVERFLOW})));
}
`;

/**
 * What a shader must begin with.
 *
 * @param types Element types of its bindings
 * @returns WGSL, empty where none is of f16
 */
export function f16Header(types: readonly string[]): string {
  return types.some((type) => type.includes("f16")) ? HEADER : "";
}

/**
 * The type of a binding that holds f16 instead of f32.
 *
 * @param type `"f32"`, `"vec4f"` or `"vec4<f32>"`
 * @returns The same of f16
 */
export function halfType(type: string): string {
  return isVector(type) ? "vec4<f16>" : "f16";
}

/**
 * Rounds to f16; what is too large becomes infinite.
 *
 * @param value WGSL
 * @param type Its type: `"f32"`, `"vec4f"` or `"vec4<f32>"`
 * @returns WGSL
 */
export function toHalf(value: string, type: string): string {
  return `${isVector(type) ? "half4" : "half"}(${value})`;
}

/** How a kernel reads and writes its bindings of some type. */
export interface Access {
  /** WGSL for an element of a binding, f32. */
  readonly load: (name: string, index: string) => string;
  /** WGSL that stores one. */
  readonly put: (name: string, index: string, value: string) => string;
}

/**
 * The one way to touch bindings that may hold f16.
 *
 * @param type What is loaded at once: `"f32"`, `"vec4f"` or `"vec4<f32>"`
 * @param f16 Bindings that hold f16; none when absent
 * @returns Loads and stores
 */
export function access(type: string, f16: F16Bindings = []): Access {
  return {
    load: (name, index) => f16.includes(name) ? `${type}(${name}[${index}])` : `${name}[${index}]`,
    put: (name, index, value) => `${name}[${index}] = ${f16.includes(name) ? toHalf(value, type) : value};`,
  };
}

function isVector(type: string): boolean {
  return type.startsWith("vec4");
}
