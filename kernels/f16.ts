/**
 * Half-precision storage: bindings that hold f16. Loads widen to f32, stores round, and all arithmetic is f32.
 *
 * @module
 */

/** Names of the bindings that hold f16 instead of f32: `a0`, `o1`, ... */
export type F16Bindings = readonly string[];

/** The largest f16 is 65504; numbers from here on round to infinity. */
const OVERFLOW = "65520.0f";

/** Some adapters round too large numbers to 65504 instead of infinity, which would hide an overflow. */
const HEADER = `enable f16;
fn half(x: f32) -> f16 { return f16(select(x, x * 3.0e38f, abs(x) >= ${OVERFLOW})); }
fn half4(x: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(select(x, x * 3.0e38f, abs(x) >= vec4<f32>(${OVERFLOW})));
}
`;

/**
 * The WGSL that a shader with f16 bindings must begin with.
 *
 * @param types Element types of its bindings
 * @returns WGSL; empty when no type is f16
 */
export function f16Header(types: readonly string[]): string {
  return types.some((type) => type.includes("f16")) ? HEADER : "";
}

/**
 * The type of a binding that holds f16 instead of f32.
 *
 * @param type `"f32"`, `"vec4f"` or `"vec4<f32>"`
 * @returns The f16 type
 */
export function halfType(type: string): string {
  return isVector(type) ? "vec4<f16>" : "f16";
}

/**
 * Rounds to f16; numbers that are too large become infinite.
 *
 * @param value WGSL
 * @param type Its type: `"f32"`, `"vec4f"` or `"vec4<f32>"`
 * @returns WGSL
 */
export function toHalf(value: string, type: string): string {
  return `${isVector(type) ? "half4" : "half"}(${value})`;
}

/** How a kernel loads and stores elements of its bindings. */
export interface Access {
  /** WGSL that loads an element, as f32. */
  readonly load: (name: string, index: string) => string;
  /** WGSL that stores an element. */
  readonly put: (name: string, index: string, value: string) => string;
}

/**
 * Loads and stores of bindings that may hold f16.
 *
 * @param type Type of one load: `"f32"`, `"vec4f"` or `"vec4<f32>"`
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
