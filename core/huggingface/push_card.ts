/**
 * Which card stands in a repository after a push.
 *
 * @module
 */

import type { FileSystem } from "../host/file_system.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import type { HubName } from "../hub/name.ts";
import type { Question } from "../hub/refusal.ts";
import type { Repository } from "../hub/repository.ts";
import type { Hub } from "../hub/settings.ts";
import { readRemote } from "../hub/upload.ts";

/** Name of the card. */
export const CARD = "README.md";

/** Bytes of a card. */
const LIMIT = 2 ** 24;

/** By this line a card is known that a program made; `modelCard` writes it. */
const MADE = /^<!-- Made by Firn\b/m;

/** The card that is sent. */
export interface ChosenCard {
  /** Null when none is sent. */
  readonly bytes: Uint8Array<ArrayBuffer> | null;
  readonly from: "folder" | "made" | "kept" | "none";
  /** Whether it takes the place of one that somebody wrote. */
  readonly replaces: boolean;
}

/**
 * Chooses the card: what somebody wrote into the folder, else the one that was made, unless somebody wrote one there.
 *
 * @param options The folder and its files, the repository, and the card that was made
 * @returns The card
 */
export async function chooseCard(
  { folder, files, fileSystem, card, replaceCard = false, hub, name, remote, question }: {
    readonly folder: string;
    readonly files: readonly string[];
    readonly fileSystem: FileSystem;
    readonly card?: string;
    readonly replaceCard?: boolean;
    readonly hub: Hub;
    readonly name: HubName;
    readonly remote: Repository;
    readonly question: Question;
  },
): Promise<ChosenCard> {
  const own = files.includes(CARD)
    ? await fileSystem.read(await pathInFolder(folder, CARD, { fileSystem }), { limit: LIMIT })
    : null;
  const there = remote.files.some(({ path }) => path === CARD)
    ? await readRemote(hub, { name, commit: remote.commit, path: CARD, limit: LIMIT, question })
    : null;
  const isWritten = there !== null && !isMade(there);
  const replaces = (bytes: Uint8Array): boolean => isWritten && textOf(bytes) !== textOf(there);
  if (own !== null && !isMade(own)) return { bytes: own, from: "folder", replaces: replaces(own) };
  const made = card === undefined ? own : new TextEncoder().encode(card);
  if (made === null) return { bytes: null, from: there === null ? "none" : "kept", replaces: false };
  if (isWritten && !replaceCard) return { bytes: null, from: "kept", replaces: false };
  return { bytes: made, from: "made", replaces: replaces(made) };
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const isMade = (bytes: Uint8Array): boolean => MADE.test(textOf(bytes));
