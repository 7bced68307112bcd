/**
 * Names of repositories on a hub.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { isWindows, isWindowsName, type PathOptions } from "../host/paths.ts";

/** What a repository holds. */
export type RepositoryKind = "model" | "dataset";

/** A repository at a revision. */
export interface HubName {
  readonly kind: RepositoryKind;
  /** `owner/name`. */
  readonly repository: string;
  /** A branch, a tag, or the hash of a commit. */
  readonly revision: string;
  /** A path in the repository; `""` for all of it. */
  readonly path: string;
}

const PART = /^[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?$/;

/** What git allows in names, without what a URL or a shell would take for something else. */
const REVISION = /^[A-Za-z0-9_](?:[\w./+-]*[A-Za-z0-9_])?$/;

const LONGEST = 96;

/**
 * Whether text can be the name of a repository: `owner/name`, or `owner/name@revision`, with a path behind the name or not.
 *
 * @param text The text
 * @returns Whether it can
 */
export function isHubName(text: string): boolean {
  return parse(text) !== null;
}

/**
 * Reads a name: `owner/name[/path][@revision]`.
 *
 * @param text The name
 * @param kind What the repository holds
 * @returns Its parts; the revision is `main` when it has none
 * @throws {InputError} When it is no name
 */
export function hubName(text: string, kind: RepositoryKind): HubName {
  const found = parse(text);
  if (found !== null) return { kind, ...found };
  throw new InputError(
    `Cannot take ${
      JSON.stringify(text.slice(0, 200))
    } for a ${kind} of a hub as its name must be owner/name, ` +
      "or owner/name@revision: it is neither; check the name",
  );
}

/** How a name is written: `owner/name@revision`. */
export function nameText({ repository, path, revision }: HubName): string {
  return `${repository}${path === "" ? "" : `/${path}`}@${revision}`;
}

/**
 * Whether a path that came from elsewhere stays in the folder that it is seen from, on every system, and on Windows can be
 * that of a file.
 *
 * @param path The path
 * @param options The system
 * @returns Whether it does
 */
export function isSafePath(path: string, { windows = isWindows() }: PathOptions = {}): boolean {
  // deno-lint-ignore no-control-regex
  return path.length <= 1024 && !/[\\:\x00-\x1f\x7f]/.test(path) &&
    path.split("/").every((part) =>
      part !== "" && part !== "." && part !== ".." && (!windows || isWindowsName(part))
    );
}

function parse(text: string): Omit<HubName, "kind"> | null {
  const at = text.indexOf("@"), name = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? "main" : text.slice(at + 1);
  const [owner = "", own = "", ...rest] = name.split("/"), path = rest.join("/");
  const repository = `${owner}/${own}`;
  const fits = [owner, own].every((part) => PART.test(part) && !/--|\.\.|\.git$/.test(part));
  if (!fits || repository.length > LONGEST) return null;
  if (!REVISION.test(revision) || revision.length > 255 || !isSafePath(revision) || revision.includes("..")) {
    return null;
  }
  return rest.length > 0 && !isSafePath(path) ? null : { repository, revision, path };
}
