/**
 * Stands in for `jsr:@std/assert` where JSR does not answer: the same names, signatures and meaning, over
 * Node's own assertions.
 *
 * @module
 */

import { AssertionError } from "node:assert";
import { inspect, isDeepStrictEqual } from "node:util";

export { AssertionError };

/** A class, abstract or not, that errors are told apart by. */
// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;
// deno-lint-ignore no-explicit-any
type AnyClass = abstract new (...args: any[]) => any;

function check(holds: boolean, seen: string, msg?: string): void {
  if (!holds) throw new AssertionError({ message: msg === undefined ? seen : `${seen}: ${msg}` });
}

function show(value: unknown): string {
  return inspect(value, { depth: 8, maxArrayLength: 64, breakLength: 110 });
}

/** Asserts that a value is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError({ message: msg });
}

/** Asserts that two values are deeply equal, where `NaN` equals itself and `-0` equals `0`. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  check(
    equal(actual, expected),
    `Values are not equal\n  actual: ${show(actual)}\nexpected: ${show(expected)}`,
    msg,
  );
}

/** Asserts that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  check(!equal(actual, expected), `Expected values not to be equal, both are ${show(actual)}`, msg);
}

function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true; // and so 0 and -0, where Node's comparison tells them apart
  if (!comparable(a) || !comparable(b) || a.constructor !== b.constructor) return isDeepStrictEqual(a, b);
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}

function comparable(value: unknown): value is Record<string, unknown> {
  return Array.isArray(value) || ArrayBuffer.isView(value) ||
    Object.prototype.toString.call(value) === "[object Object]";
}

/** Asserts that two values are the same by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, msg?: string): asserts actual is T {
  check(
    Object.is(actual, expected),
    `Values are not strictly equal\n  actual: ${show(actual)}\nexpected: ${show(expected)}`,
    msg,
  );
}

/** Asserts that two values are not the same by `Object.is`. */
export function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void {
  check(!Object.is(actual, expected), `Expected values not to be the same, both are ${show(actual)}`, msg);
}

/** Asserts that two numbers differ by no more than a tolerance, by default 1e-7 of the expected one. */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, msg?: string): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  check(
    Math.abs(expected - actual) <= allowed,
    `Expected ${actual} within ${allowed} of ${expected}, they differ by ${Math.abs(expected - actual)}`,
    msg,
  );
}

/** Asserts that the first value is greater than the second. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  check(actual > expected, `Expected ${show(actual)} > ${show(expected)}`, msg);
}

/** Asserts that the first value is greater than or equal to the second. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  check(actual >= expected, `Expected ${show(actual)} >= ${show(expected)}`, msg);
}

/** Asserts that the first value is less than the second. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  check(actual < expected, `Expected ${show(actual)} < ${show(expected)}`, msg);
}

/** Asserts that the first value is less than or equal to the second. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  check(actual <= expected, `Expected ${show(actual)} <= ${show(expected)}`, msg);
}

/** Asserts that a value is neither null nor undefined. */
export function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T> {
  check(actual !== undefined && actual !== null, `Expected a value, got ${actual}`, msg);
}

/** Asserts that a value is falsy. */
export function assertFalse(expr: unknown, msg = ""): void {
  check(!expr, `Expected a falsy value, got ${show(expr)}`, msg);
}

/** Asserts that a value is an instance of a class. */
export function assertInstanceOf<T extends AnyClass>(
  actual: unknown,
  expectedType: T,
  msg = "",
): asserts actual is InstanceType<T> {
  check(
    actual instanceof expectedType,
    `Expected an instance of "${expectedType.name}", got ${show(actual)}`,
    msg,
  );
}

/** Asserts that a string holds another. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  check(actual.includes(expected), `Expected ${show(actual)} to contain ${show(expected)}`, msg);
}

/** Asserts that an array holds every given value, by deep equality. */
export function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, msg?: string): void {
  const missing = Array.from(expected).filter((want) =>
    !Array.from(actual).some((have) => equal(have, want))
  );
  check(missing.length === 0, `Expected ${show(actual)} to include ${show(missing)}`, msg);
}

/** Asserts that a string matches a pattern. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  check(expected.test(actual), `Expected ${show(actual)} to match ${expected}`, msg);
}

/** Asserts that a string does not match a pattern. */
export function assertNotMatch(actual: string, expected: RegExp, msg?: string): void {
  check(!expected.test(actual), `Expected ${show(actual)} not to match ${expected}`, msg);
}

/** Asserts that a value is an error, of a class and with a message that holds a text where given. */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  ErrorClass?: ErrorClass<E>,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E {
  check(error instanceof Error, `Expected an error object, got ${show(error)}`, msg);
  const seen = error as Error;
  if (ErrorClass) {
    check(
      seen instanceof ErrorClass,
      `Expected an instance of "${ErrorClass.name}", got "${seen.constructor.name}" ("${seen.message}")`,
      msg,
    );
  }
  if (msgMatches !== undefined) {
    const matches = typeof msgMatches === "string"
      ? seen.message.includes(msgMatches)
      : msgMatches.test(seen.message);
    check(
      matches,
      `Expected the error's message to include ${show(msgMatches)}, got ${show(seen.message)}`,
      msg,
    );
  }
}

/** Asserts that a function throws, an error of a class with a text in its message where given; returns it. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  classOrMsg?: ErrorClass<E> | string,
  msgIncludes?: string,
  msg?: string,
): E | Error | unknown {
  const ErrorClass = typeof classOrMsg === "string" ? undefined : classOrMsg;
  let thrown: unknown;
  try {
    fn();
  } catch (error) {
    thrown = error;
    if (ErrorClass) assertIsError(error, ErrorClass, msgIncludes, msg);
    return thrown;
  }
  throw new AssertionError({
    message: `Expected function to throw${suffix(typeof classOrMsg === "string" ? classOrMsg : msg)}`,
  });
}

/** Asserts that a promise rejects, with an error of a class and a text in its message where given; returns it. */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  classOrMsg?: ErrorClass<E> | string,
  msgIncludes?: string,
  msg?: string,
): Promise<E | Error | unknown> {
  const ErrorClass = typeof classOrMsg === "string" ? undefined : classOrMsg;
  let promise: PromiseLike<unknown> | undefined;
  try {
    promise = fn();
    await promise;
  } catch (error) {
    if (promise === undefined) {
      throw new AssertionError({ message: "Function throws when expected to reject" });
    }
    if (ErrorClass) assertIsError(error, ErrorClass, msgIncludes, msg);
    return error;
  }
  throw new AssertionError({
    message: `Expected function to reject${suffix(typeof classOrMsg === "string" ? classOrMsg : msg)}`,
  });
}

function suffix(msg?: string): string {
  return msg === undefined ? "" : `: ${msg}`;
}

/** Fails. */
export function fail(msg?: string): never {
  throw new AssertionError({ message: `Failed assertion${suffix(msg) || "."}` });
}

/** Fails, where control must not come. */
export function unreachable(msg?: string): never {
  throw new AssertionError({ message: `Unreachable${suffix(msg) || "."}` });
}
