/**
 * Where a hub and its cache are: options, else the variables that `huggingface_hub` for Python reads.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { type Environment, hostEnvironment } from "../host/environment.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { trimmedPath } from "../host/paths.ts";

/** Options of all functions that ask a hub. */
export interface HubOptions extends FileSystemOptions {
  /** Address of the hub; that of `HF_ENDPOINT` when absent, else `https://huggingface.co`. */
  readonly endpoint?: string;
  /** Token of the user; that of `HF_TOKEN` when absent, else of the file that `hf auth login` writes. Null for none. */
  readonly token?: string | null;
  /** Folder of the cache; that of `HF_HUB_CACHE`, or `hub` in `HF_HOME`, when absent: `~/.cache/huggingface/hub`. */
  readonly cache?: string;
  /** Whether nothing but the cache may be asked; as `HF_HUB_OFFLINE` says when absent. */
  readonly offline?: boolean;
  /** Looks up the variables; those of the process when absent. */
  readonly environment?: Environment;
  /** Milliseconds before the first retry, which double from one to the next; 500 when absent. */
  readonly retryDelay?: number;
}

/** A hub, and who asks. */
export interface Hub {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | null;
  readonly retryDelay: number;
}

/** What a program that asks a hub runs with. */
const MEND = "run it through ./firn, or with --allow-env --allow-net";

const inProcess: Environment = (name) => hostEnvironment(name, MEND);

const ENDPOINT = "https://huggingface.co";

/** More is no token. */
const LONGEST_TOKEN = 10_000;

/**
 * Finds the cache.
 *
 * @param options Where it is, if that is known
 * @returns Its folder
 * @throws {InputError} When neither an option nor the environment tells
 */
export async function cacheFolder(
  { cache, environment = inProcess }: HubOptions,
): Promise<string> {
  const folder = cache ?? await environment("HF_HUB_CACHE") ?? `${await homeFolder(environment)}/hub`;
  return trimmedPath(await withHome(folder, environment));
}

/**
 * Whether nothing but the cache may be asked.
 *
 * @param options Whether it is so, if that is known
 * @returns Whether it is so
 */
export async function isOffline({ offline, environment = inProcess }: HubOptions): Promise<boolean> {
  return offline ?? isTrue(await environment("HF_HUB_OFFLINE"));
}

/**
 * Finds the hub and the token.
 *
 * @param options Both, if they are known
 * @returns The hub
 * @throws {InputError} When the address is none, or the token cannot be one
 */
export async function hubOf(options: HubOptions): Promise<Hub> {
  const { environment = inProcess, retryDelay = 500 } = options;
  const endpoint = options.endpoint ?? await environment("HF_ENDPOINT") ?? ENDPOINT;
  const url = URL.parse(endpoint);
  if (
    url === null || !/^https?:$/.test(url.protocol) || `${url.username}${url.password}${url.search}` !== ""
  ) {
    throw new InputError(
      `Cannot use "${endpoint}" as the address of a hub must begin with https:// or http:// and have no password: ` +
        "check HF_ENDPOINT",
    );
  }
  const token = options.token === undefined ? await tokenOf(options, environment) : options.token;
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) {
    throw new InputError(
      "Cannot use the token as it must be one word in ASCII: check HF_TOKEN, or log in again",
    );
  }
  return { endpoint: url.href.replace(/\/+$/, ""), token, retryDelay };
}

async function tokenOf(
  { fileSystem = hostFileSystem() }: HubOptions,
  environment: Environment,
): Promise<string | null> {
  const given = (await environment("HF_TOKEN"))?.trim();
  if (given) return given;
  const path = await environment("HF_TOKEN_PATH") ?? `${await homeFolder(environment)}/token`;
  const file = await withHome(path, environment);
  if (await fileSystem.stat(file) === null) return null;
  const text = new TextDecoder().decode(await fileSystem.read(file, { limit: LONGEST_TOKEN })).trim();
  return text === "" ? null : text;
}

async function homeFolder(environment: Environment): Promise<string> {
  const home = await environment("HF_HOME");
  if (home !== undefined) return await withHome(home, environment);
  const cache = await environment("XDG_CACHE_HOME");
  return `${cache === undefined ? await withHome("~/.cache", environment) : cache}/huggingface`;
}

/** The path with `~` as the folder of the user. */
async function withHome(path: string, environment: Environment): Promise<string> {
  if (!/^~([\\/]|$)/.test(path)) return path;
  const home = await environment("HOME") ?? await environment("USERPROFILE");
  if (home !== undefined) return home + path.slice(1);
  throw new InputError(
    `Cannot find "${path}" as the environment must tell the folder of the user: HOME is not set; set HF_HUB_CACHE`,
  );
}

const isTrue = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? "");
