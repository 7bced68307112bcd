/**
 * Failures of the machine as errors that a person can act on.
 *
 * @module
 */

import { AlreadyExistsError, FileError, type FirnError, NotFoundError } from "../errors.ts";
import { finalPath } from "./temporary.ts";

/** What was tried. */
export interface Attempt {
  /** The verb, as in "Cannot open". */
  readonly action:
    | "append to"
    | "find"
    | "link"
    | "list"
    | "lock"
    | "make"
    | "open"
    | "read"
    | "remove"
    | "rename"
    | "write";
  /** The file or folder that was asked for. */
  readonly path: string;
  /** What it should be. */
  readonly kind?: "file" | "folder";
  /** Bytes that the content takes, as far as they are known. */
  readonly bytes?: number;
  /** What the runtime threw. */
  readonly cause?: unknown;
}

/** Codes of the errors of Deno that come without one. */
const CODES: Readonly<Record<string, string>> = {
  AlreadyExists: "EEXIST",
  Busy: "EBUSY",
  FilesystemLoop: "ELOOP",
  IsADirectory: "EISDIR",
  NotADirectory: "ENOTDIR",
  NotCapable: "NotCapable",
  NotFound: "ENOENT",
  PermissionDenied: "EACCES",
};

/** What Deno misses, such as `read`, and of which path. */
const CAPABILITY = /^Requires (\w+) access/;

const room = ({ bytes }: Attempt): string =>
  `the disk must have room for ${bytes === undefined ? "it" : `${bytes.toLocaleString("en-US")} bytes`}`;

const refused = ({ action }: Attempt): string =>
  `this user must be allowed to ${
    action === "rename" ? "rename it" : `${action} it`
  }: the system refuses; change its owner or mode (chmod), or choose another path`;

/** By code: the rule, what was seen, and the mend. */
const REASONS: Readonly<Record<string, (attempt: Attempt) => string>> = {
  EACCES: refused,
  EPERM: refused,
  EBUSY: () => "nothing else may use it: it is busy; end what uses it",
  EDQUOT: (attempt) =>
    `${room(attempt)}: the quota of this user or site is used up; free some, or choose another disk`,
  EEXIST: () => "nothing may be there: it exists; choose another path, or move it away",
  EFBIG: () => "its file system limits the size of a file: it is too large; choose another disk",
  EIO: () => "the disk must answer: it reports an input/output error; check the disk, or choose another",
  EINVAL: () => "it must be a path that the system knows: it is not; check the path",
  EISDIR: () => "it must be a file: it is a folder; give the path of a file",
  ELOOP: () => "its links must lead somewhere: they lead in a circle; check the path",
  EMFILE: () => "the system limits the number of open files: too many are open; raise the limit (ulimit -n)",
  ENAMETOOLONG: () => "the system limits the length of a name: it is too long; choose a shorter one",
  ENFILE: () => "the system limits the number of open files: too many are open; end other programs",
  ENODEV: () => "it must be a file or a folder: it is a device, a pipe or a socket; give the path of a file",
  ENOENT: ({ action, kind = "file or folder" }) =>
    action === "write" || action === "append to" || action === "make" || action === "lock" ||
      action === "link"
      ? "the folder that holds it must exist: it does not; make it, or check the path"
      : `there is no such ${kind}: check the path`,
  ENOLCK: () => "its file system must support locks: it does not; choose another disk",
  ENOSPC: (attempt) => `${room(attempt)}: it is full; free some, or choose another disk`,
  ENOTDIR: ({ kind }) =>
    kind === "folder"
      ? "it must be a folder: it, or a part of its path, is a file; check the path"
      : "what holds it must be a folder: a part of its path is a file; check the path",
  ENOTEMPTY: () => "only an empty folder may be there: it holds something; choose another path",
  EOPNOTSUPP: () => "its file system must support it: it does not; choose another disk",
  EROFS: () => "its file system must be writable: it is read-only; choose another disk",
  ESTALE: () => "the network disk must answer: it has lost the file; connect it again",
  NotReadable: () => "it must stay as it was opened: it has changed since, or cannot be read; open it again",
  EXDEV: () => "both paths must lie on one disk: they do not; choose a path on the same disk",
};

/**
 * Makes the error of a failure.
 *
 * @param code What is wrong, in the system's words, such as `ENOSPC`
 * @param attempt What was tried
 * @returns A {@link NotFoundError}, an {@link AlreadyExistsError}, or a {@link FileError}
 */
export function fileError(code: string, attempt: Attempt): FirnError {
  const { action, path, cause } = attempt;
  const reason = REASONS[code]?.(attempt) ??
    `the system must be able to: ${cause instanceof Error ? cause.message : code}; mend what it says`;
  // A temporary file stands for the one whose place it takes.
  const message = `Cannot ${action} "${finalPath(path)}" as ${reason}`;
  if (code === "ENOENT") return new NotFoundError(message, { cause });
  if (code === "EEXIST" || code === "ENOTEMPTY") return new AlreadyExistsError(message, { cause });
  return new FileError(message, { path, code, cause });
}

/**
 * Makes what Deno threw an error that names the path and the mend. What the system did not cause, such as the use of a
 * closed file, is a defect and stays as it is.
 *
 * @param error What was thrown
 * @param attempt What was tried
 * @returns The error to throw
 */
export function machineError(error: unknown, attempt: Attempt): unknown {
  const code = codeOf(error);
  if (code === null) return error;
  if (code !== "NotCapable") return fileError(code, { ...attempt, cause: error });
  const { action, path } = attempt;
  if ((error as Error).name !== "NotCapable") {
    const flag = `--allow-fs-read=${JSON.stringify(path)} or --allow-fs-write=${JSON.stringify(path)}`;
    const message =
      `Cannot ${action} "${path}" as Node must be allowed to use it: it is not; run with ${flag}`;
    return new FileError(message, { path, code, cause: error });
  }
  const access = (error as Error).message.match(CAPABILITY)?.[1] ?? "all";
  const flag = access === "all" ? "--allow-all" : `--allow-${access}=${JSON.stringify(path)}`;
  const rule = `Deno must be allowed to ${access === "all" ? "use" : access} it: it is not; run with ${flag}`;
  return new FileError(`Cannot ${action} "${path}" as ${rule}`, { path, code, cause: error });
}

/** The code of a failure of the system; null when something else went wrong. */
export function codeOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code } = error as { readonly code?: unknown };
  if (error.name === "NotCapable" || code === "ERR_ACCESS_DENIED") return "NotCapable";
  if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
  return CODES[error.name] ?? (/\(os error \d+\)/.test(error.message) ? "UNKNOWN" : null);
}
