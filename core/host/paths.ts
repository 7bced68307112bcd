/**
 * Paths as people write them on each system.
 *
 * @module
 */

import { nodeProcess } from "./node.ts";

/** Options of functions of paths. */
export interface PathOptions {
  /** Whether paths are those of Windows; as the machine's when absent. */
  readonly windows?: boolean;
}

/** Whether this is Windows. */
export function isWindows(): boolean {
  const { Deno: deno } = globalThis;
  return deno?.build.os === "windows" || nodeProcess()?.platform === "win32";
}

/**
 * Writes a path with `/` between its parts: Windows takes both, and all that Firn does with paths knows the one. Elsewhere a
 * backslash is a character of a name. A verbatim path of Windows, `\\?\`, takes only backslashes and stays.
 *
 * @param path The path
 * @param options The system
 * @returns The path
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { slashed } from "@firn/train/data";
 *
 * assertEquals(slashed("D:\\runs\\a", { windows: true }), "D:/runs/a");
 * assertEquals(slashed("a\\b", { windows: false }), "a\\b");
 * ```
 */
export function slashed(path: string, { windows = isWindows() }: PathOptions = {}): string {
  return windows && !/^\\\\[?.]\\/.test(path) ? path.replaceAll("\\", "/") : path;
}

/**
 * A path without slashes at its end, which the root of a disk keeps.
 *
 * @param path The path
 * @param options The system
 * @returns The path, its parts separated by `/`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { trimmedPath } from "@firn/train/data";
 *
 * assertEquals(trimmedPath("out/a//"), "out/a");
 * assertEquals(trimmedPath("C:\\", { windows: true }), "C:/");
 * ```
 */
export function trimmedPath(path: string, { windows = isWindows() }: PathOptions = {}): string {
  const plain = slashed(path, { windows }).replace(/(?<=.)\/+$/, "");
  return windows && /^[a-z]:$/i.test(plain) && plain.length < path.length ? `${plain}/` : plain;
}

/**
 * The folder that holds a path.
 *
 * @param path The path
 * @param options The system
 * @returns The folder, its parts separated by `/`; `.` for a name alone
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parentOf } from "@firn/train/data";
 *
 * assertEquals(["out/a", "a", "/a"].map((path) => parentOf(path)), ["out", ".", "/"]);
 * assertEquals(["C:\\a", "\\\\host\\share\\a"].map((path) => parentOf(path, { windows: true })), ["C:/", "//host/share"]);
 * ```
 */
export function parentOf(path: string, { windows = isWindows() }: PathOptions = {}): string {
  const plain = trimmedPath(path, { windows }), at = plain.lastIndexOf("/");
  if (at < 0) return ".";
  return trimmedPath(plain.slice(0, at + 1), { windows });
}

/** Whether a path begins at a root, that of a drive or of a share among them. */
export function isAbsolute(path: string, { windows = isWindows() }: PathOptions = {}): boolean {
  return path.startsWith("/") || windows && /^([a-z]:)?[\\/]/i.test(path);
}

/** A path in a folder. */
export function joined(folder: string, name: string): string {
  if (folder === ".") return name;
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}

/**
 * The address of a file. Characters that mean something in an address, such as `#`, `%` and `?`, stay part of its name.
 *
 * @param path Its path from a root
 * @param options The system
 * @returns The address
 */
export function fileAddress(path: string, { windows = isWindows() }: PathOptions = {}): URL {
  const plain = slashed(path, { windows }), [drive = ""] = windows ? /^[a-z]:(?=\/)/i.exec(plain) ?? [] : [];
  const rest = plain.slice(drive.length).split("/").map(encodeURIComponent).join("/");
  if (drive !== "") return new URL(`file:///${drive}${rest}`);
  // That of a share begins with its host.
  return new URL(windows && rest.startsWith("//") ? `file:${rest}` : `file://${rest}`);
}

/** Names that Windows has for devices, with any ending. */
const DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;

/**
 * Whether a name that came from elsewhere can be that of a file on Windows: no device, no stream of another file, and nothing
 * that Windows drops.
 *
 * @param name A part of a path
 * @returns Whether it can
 */
export function isWindowsName(name: string): boolean {
  // deno-lint-ignore no-control-regex
  return !/[<>:"|?*\\\x00-\x1f]|[. ]$/.test(name) && !DEVICE.test(name.trimEnd());
}
