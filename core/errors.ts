/**
 * The errors of Firn. Each is a {@link FirnError}: its message says what cannot be done, by which rule, what was seen, and
 * what to try. A defect of Firn throws an error of another class.
 *
 * @module
 */

/**
 * An error that a person can act on.
 *
 * @example Telling such errors from defects
 * ```ts
 * import { assert } from "@std/assert";
 * import { FirnError, tensor } from "@firn/train";
 *
 * try {
 *   tensor([]);
 * } catch (error) {
 *   assert(error instanceof FirnError);
 * }
 * ```
 */
export class FirnError extends Error {
  /** Name of the class, kept when code is minified. */
  override name = "FirnError";

  /** Keeps the message on one line, whatever names of strangers it quotes: controls become escapes such as `\\u001b`. */
  constructor(message: string, options?: ErrorOptions) {
    super(message.replace(CONTROLS, escaped), options);
  }
}

/** What ends a line, moves the cursor of a terminal or turns the order of text. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

function escaped(control: string): string {
  if (control === "\n") return "\\n";
  return `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** An argument, an option or a flag that a function cannot take. */
export class InputError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "InputError";
}

/** Shapes that do not fit an operation. */
export class ShapeError extends InputError {
  /** Name of the class, kept when code is minified. */
  override name = "ShapeError";
  /** Name of the operation. */
  readonly op: string;
  /** The shapes. */
  readonly shapes: readonly (readonly number[])[];

  /** Names the operation, the rule and the shapes. */
  constructor(op: string, rule: string, shapes: readonly (readonly number[])[]) {
    super(`Cannot apply "${op}" as ${rule}: got ${shapes.map((s) => `[${s.join(", ")}]`).join(" and ")}`);
    this.op = op;
    this.shapes = shapes;
  }
}

/** Data that does not match its format or its use, such as a damaged file. */
export class DataError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "DataError";
}

/** A file or folder that does not exist. */
export class NotFoundError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "NotFoundError";
}

/** A file or folder exists already, and would be lost. */
export class AlreadyExistsError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "AlreadyExistsError";
}

/** The machine refuses work on a file or a folder: a full disk, a missing permission, a folder where a file must be. */
export class FileError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "FileError";
  /** The file or folder. */
  readonly path: string;
  /** What is wrong, in the system's words: `ENOSPC`, `EACCES`, `EISDIR` and so on. */
  readonly code: string;

  /** Keeps the path and the code as data. */
  constructor(
    message: string,
    { path, code, cause }: { readonly path: string; readonly code: string; readonly cause?: unknown },
  ) {
    super(message, { cause });
    this.path = path;
    this.code = code;
  }
}

/** A model hub that cannot be reached, or that refuses what was asked of it. */
export class HubError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "HubError";
  /** The status of its answer; null when there was none. */
  readonly status: number | null;

  /** Keeps the status as data. */
  constructor(
    message: string,
    { status, cause }: { readonly status: number | null; readonly cause?: unknown },
  ) {
    super(message, { cause });
    this.status = status;
  }
}

/** A state was used after the step that consumed it. */
export class ConsumedError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "ConsumedError";
  /** Step that produced the state. */
  readonly producedAt: number;
  /** Step that consumed it. */
  readonly consumedBy: number;

  /** Names the step that consumed the state, and how to keep one. */
  constructor(producedAt: number, consumedBy: number) {
    super(
      `Cannot use the state of step ${producedAt} as step ${consumedBy} consumed it: ` +
        `keep the state that next() returned, or take a snapshot(gpu, state) before the step`,
    );
    this.producedAt = producedAt;
    this.consumedBy = consumedBy;
  }
}

/** The device is out of memory. */
export class OutOfMemoryError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "OutOfMemoryError";
  /** Name of the allocation. */
  readonly label: string;
  /** Its size in bytes. */
  readonly bytes: number;

  /** Names the allocation, what the device reported, and what to try. */
  constructor(label: string, bytes: number, seen: string, mend: string = SMALLER_BATCH) {
    super(
      `Cannot allocate "${label}" of ${(bytes / 2 ** 20).toFixed(1)} MiB on the device: ${seen}; ${mend}`,
    );
    this.label = label;
    this.bytes = bytes;
  }
}

/** The device was lost: a driver crash, a reset, an unplugged card, or it was closed. */
export class DeviceLostError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "DeviceLostError";
  /** Whether it was closed on purpose. */
  readonly closed: boolean;

  /** Says which device, and what is known of why. */
  constructor(
    message: string,
    { closed = false, ...options }: ErrorOptions & { readonly closed?: boolean } = {},
  ) {
    super(message, options);
    this.closed = closed;
  }
}

/** A value that must be finite is infinite or NaN. */
export class NonFiniteError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "NonFiniteError";
  /** What is not finite: `loss`, `validation loss`, `gradNorm of "layers.0.mlp.up_proj"`. */
  readonly what: string;
  /** Step at which it was first seen; 0 where no step was taken. */
  readonly step: number;
  /** Infinite, or NaN. */
  readonly value: number;

  /**
   * Names the value and the step, and what to try.
   *
   * @param what What is not finite
   * @param step Step at which it was first seen; 0 where no step was taken
   * @param value Its value
   * @param more What cannot be done, and what was found and is to be tried; by default what helps once steps were taken
   */
  constructor(
    what: string,
    step: number,
    value: number,
    more: { readonly action?: string; readonly mend?: string } = {},
  ) {
    const { action = "go on training", mend = LOWER_THE_RATE } = more;
    super(`Cannot ${action} as the ${what}${step > 0 ? ` of step ${step}` : ""} is ${value}: ${mend}`);
    this.what = what;
    this.step = step;
    this.value = value;
  }
}

/** What helps when the values of a step are too large. */
const SMALLER_BATCH = "lower the batch or its length, or use a larger device";

/** What helps when a number was finite until some step. */
const LOWER_THE_RATE =
  "go back to a checkpoint and lower the learning rate, clip gradients, or look at the batch of that step";

/** Ranks that train together cannot reach each other, or one of them did not come. */
export class RanksError extends FirnError {
  /** Name of the class, kept when code is minified. */
  override name = "RanksError";
}
