/**
 * Requests for files and for parts of them. What answers may be anybody: it can neither fill the memory nor send parts of two files.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { FileError } from "../errors.ts";
import { READ_LIMIT } from "./file_system.ts";
import { checkSize } from "./limits.ts";

/** A file of a server. */
export interface Address {
  /** What errors call it. */
  readonly path: string;
  /** Its address. */
  readonly url: string;
  /** Sends the request. */
  readonly send: typeof fetch;
}

/** What a server has. */
export interface Served {
  /** Size in bytes. */
  readonly size: number;
  /** Whether it sends parts. */
  readonly ranges: boolean;
  /** What it says of the version, as far as a page may see it. */
  readonly version: string;
}

/**
 * Asks what a server has, by a request for one byte, as some servers answer no other kind of question.
 *
 * @param address The file
 * @returns What it has; null when there is no such file
 * @throws {FileError} When it cannot be reached, or refuses
 */
export async function probe(address: Address): Promise<Served | null> {
  const answer = await ask(address, "bytes=0-0");
  if (answer === null) return null;
  const version = versionOf(answer), total = totalOf(answer);
  if (answer.status === 416) {
    await answer.body?.cancel();
    return { size: total ?? 0, ranges: false, version };
  }
  if (answer.status === 206) {
    await answer.body?.cancel();
    return { size: total ?? await sizeByHead(address), ranges: true, version };
  }
  const size = lengthOf(answer);
  if (size !== null) {
    await answer.body?.cancel();
    return { size, ranges: false, version };
  }
  return { size: (await bytesOf(address, answer, READ_LIMIT)).length, ranges: false, version };
}

/**
 * Reads a file.
 *
 * @param address The file
 * @param options How many bytes it may have, 1 GiB when absent; what was seen of it before
 * @returns The bytes; null when there is no such file
 * @throws {FileError} When it is larger, has changed, or cannot be read
 */
export async function readWhole(
  address: Address,
  { limit = READ_LIMIT, seen }: { readonly limit?: number; readonly seen?: Served } = {},
): Promise<Uint8Array<ArrayBuffer> | null> {
  if (seen !== undefined) checkSize(address.path, { size: seen.size, limit });
  const answer = await ask(address);
  if (answer === null) return null;
  const size = lengthOf(answer) ?? 0;
  if (size > limit) await answer.body?.cancel();
  checkSize(address.path, { size, limit });
  const bytes = await bytesOf(address, answer, limit);
  if (seen !== undefined) checkVersion(address, seen, { version: versionOf(answer), size: bytes.length });
  return bytes;
}

/**
 * Reads a part of a file.
 *
 * @param address The file
 * @param options From which byte to which, exclusive; what was seen of it before
 * @returns The bytes
 * @throws {FileError} When the file has changed, or cannot be read
 */
export async function readRange(
  address: Address,
  { begin, end, seen }: { readonly begin: number; readonly end: number; readonly seen: Served },
): Promise<Uint8Array<ArrayBuffer>> {
  const answer = await ask(address, `bytes=${begin}-${end - 1}`);
  // A server may send a part that is everything as the whole.
  const fits = answer?.status === 206 || answer?.status === 200 && begin === 0 && end === seen.size;
  if (answer === null || !fits || placeOf(answer, begin) !== begin) {
    await answer?.body?.cancel();
    throw changed(address);
  }
  checkVersion(address, seen, { version: versionOf(answer), size: totalOf(answer) ?? seen.size });
  const bytes = await bytesOf(address, answer, end - begin);
  if (bytes.length === end - begin) return bytes;
  throw failure(
    address,
    "ESTALE",
    `it must send the ${counted(end - begin, "byte")} that it has: it sent ${bytes.length}`,
    "try again",
  );
}

/** Sends a request; null when there is no such file. */
async function ask({ send, ...address }: Address, range?: string): Promise<Response | null> {
  let answer: Response;
  try {
    answer = await send(address.url, range === undefined ? {} : { headers: { Range: range } });
  } catch (cause) {
    const seen = `it does not (${(cause as Error).message})`;
    const mend =
      "check the address and the network; a page may read another site only where that allows it (CORS)";
    throw failure(address, "EHOSTUNREACH", `its server must answer: ${seen}`, mend, cause);
  }
  if (answer.ok || answer.status === 416 && range !== undefined) {
    // Servers of applications answer for every address, with their page.
    const page = answer.headers.get("content-type")?.startsWith("text/html") &&
      !/\.html?$/i.test(address.path);
    if (!page) return answer;
  }
  await answer.body?.cancel();
  if (answer.ok || answer.status === 404 || answer.status === 410) return null;
  const refused = answer.status === 401 || answer.status === 403;
  const mend = refused ? 'give "fetch" that signs in' : "try again later";
  throw failure(
    address,
    refused ? "EACCES" : "EIO",
    `its server must send it: it answers ${answer.status}`,
    mend,
  );
}

/** The size that a server tells without being asked for a part. */
async function sizeByHead({ send, ...address }: Address): Promise<number> {
  const answer = await send(address.url, { method: "HEAD" }).catch(() => null);
  const size = answer?.ok ? lengthOf(answer) : null;
  if (size !== null) return size;
  const rule = "its server must tell its size: it does not";
  throw failure(
    address,
    "EIO",
    rule,
    "let it send Content-Length, and Access-Control-Expose-Headers: Content-Range",
  );
}

/** Everything that a server sends, up to a limit. */
async function bytesOf(
  address: Omit<Address, "send">,
  { body }: Response,
  limit: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = body?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read().catch((cause) => {
      throw failure(
        address,
        "EIO",
        `its server must send all of it: it stopped after ${counted(size, "byte")}`,
        "try again",
        cause,
      );
    });
    if (done) break;
    chunks.push(value);
    size += value.length;
    if (size > limit) {
      await reader.cancel();
      checkSize(address.path, { size, limit });
    }
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function checkVersion(
  address: Omit<Address, "send">,
  seen: Served,
  { version, size }: Pick<Served, "size" | "version">,
): void {
  if (version !== seen.version || size !== seen.size) throw changed(address);
}

const changed = (address: Omit<Address, "send">): FileError =>
  failure(
    address,
    "NotReadable",
    "it must stay as it was when it was first seen: it has changed on its server",
    "load it again",
  );

function failure(
  { path }: Omit<Address, "send">,
  code: string,
  rule: string,
  mend: string,
  cause?: unknown,
): FileError {
  return new FileError(`Cannot read "${path}" as ${rule}; ${mend}`, { path, code, cause });
}

/** Strong or weak, a tag names one version; a page of another site may not see it. */
const versionOf = ({ headers }: Response): string =>
  headers.get("etag") ?? headers.get("last-modified") ?? "";

/** Bytes of an answer; null when it does not tell, or packs them. */
function lengthOf({ headers }: Response): number | null {
  const length = headers.get("content-length");
  return headers.has("content-encoding") || !/^\d{1,15}$/.test(length ?? "") ? null : Number(length);
}

const RANGE = /^bytes (?:(\d{1,15})-\d{1,15}|\*)\/(\d{1,15})$/;

/** Bytes of the whole file of which an answer is a part; null when it does not tell. */
function totalOf({ headers }: Response): number | null {
  const total = RANGE.exec(headers.get("content-range") ?? "")?.[2];
  return total === undefined ? null : Number(total);
}

/** Where a part begins; where it was asked for, when the answer does not tell. */
function placeOf({ headers }: Response, asked: number): number {
  const begin = RANGE.exec(headers.get("content-range") ?? "")?.[1];
  return begin === undefined ? asked : Number(begin);
}
