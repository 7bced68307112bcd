/**
 * Data for training: tokenizers, batches of token windows, safetensors files and 16-bit floats.
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadTokenizer, packDocuments, tokenWindows } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const documents = ["We are not content to stand still.", "The state of the union is strong."];
 * const stream = packDocuments(tokenizer, documents);
 * const windows = tokenWindows(stream, { length: 4, batch: 2, seed: 1 });
 * assertEquals(windows.at(1).inputIds.shape, [2, 4]);
 * ```
 *
 * @module
 */

export { type ImageProcessor, imageProcessor, pixelsOf, type RawImage, type Resample } from "./images.ts";
export { decodeImage, imageOfRow } from "./decode_image.ts";
export { fingerprint } from "../fingerprint.ts";
export { type Batches, type TokenWindows, tokenWindows, type TokenWindowsOptions } from "./batches.ts";
export { predictions } from "../models/loss.ts";
export {
  type ChatTemplate,
  chatTemplate,
  type ChatTemplateOptions,
  type RenderedChat,
  type RenderOptions,
} from "./chat/chat_template.ts";
export { answersOf, type Span } from "./chat/answers.ts";
export { encodeChat } from "./chat/encode_chat.ts";
export { loadChatTemplate, type LoadChatTemplateOptions } from "./chat/load_chat_template.ts";
export { type Conversation, type Message, messagesOf, toolsOf } from "./rows/conversation.ts";
export {
  type ChatExample,
  type Columns,
  type CompletionExample,
  type Example,
  type ExampleKind,
  type ExampleOf,
  exampleOf,
  type FeedbackExample,
  type ImageExample,
  type LabelExample,
  type PreferenceExample,
  type TextExample,
} from "./rows/example.ts";
export { openRows, type OpenRowsOptions, type Placed, type Rows } from "./rows/open_rows.ts";
export { splitRows } from "./rows/part_of_rows.ts";
export { type Row, RowError, type RowPlace } from "./rows/row.ts";
export { bestFit } from "./samples/best_fit.ts";
export {
  type PackedBatch,
  type PackOptions,
  packSamples,
  type PadOptions,
  padSamples,
} from "./samples/collate.ts";
export { fitSamples, type Long } from "./samples/fit.ts";
export type { BatchShape } from "./samples/plan_batches.ts";
export {
  evaluationBatches,
  type RowBatches,
  rowBatches,
  type RowBatchesOptions,
  type SampleCounts,
} from "./samples/row_batches.ts";
export { encodeExample, type Learned, type Sample, type SampleTokenizer } from "./samples/sample.ts";
export { type EncoderFiles, encoderFiles, encoderOf, type EncoderOptions } from "./samples/encoder_files.ts";
export { joinSources, mixSources, type WeightedSource } from "./samples/mix_sources.ts";
export { openEncoder, type OpenEncoderOptions, type RowEncoder } from "./samples/open_encoder.ts";
export { sampleEncoder, type SampleEncoderOptions } from "./samples/sample_encoder.ts";
export { type TokenRun, tokenRuns } from "./samples/token_runs.ts";
export { encodeHere, type EncodeRows, type SampleSource, sampleSource } from "./samples/sample_source.ts";
export { type Corpus, corpusOf, corpusOfRows, type CorpusSizes, openCorpus } from "./text/corpus.ts";
export { packCorpus, type PackCorpusOptions } from "./text/pack_corpus.ts";
export type { Piece, PieceSizes } from "./text/pieces.ts";
export { splitCorpus } from "./text/split_corpus.ts";
export { encodeDocument, encodePrompt, type Encoder, packDocuments } from "./tokenizer/documents.ts";
export { loadTokenizer, type LoadTokenizerOptions, type Tokenizer } from "./tokenizer/load_tokenizer.ts";
export type {
  Content,
  Entry,
  FileInfo,
  FileKind,
  FileSystem,
  FileSystemOptions,
  OpenFile,
} from "../host/file_system.ts";
export { hostFileSystem } from "../host/host_file_system.ts";
export { LOCK_FILE, lockFolder } from "../host/lock_folder.ts";
export { memoryFileSystem } from "../host/memory_file_system.ts";
export { filesFileSystem, type PickedFile } from "../host/files_file_system.ts";
export { urlFileSystem, type UrlOptions } from "../host/url_file_system.ts";
export { opfsFileSystem, type OpfsOptions } from "../host/opfs_file_system.ts";
export type { OpfsFile, OpfsFolder, OpfsLocks, OpfsWritable } from "../host/opfs_handles.ts";
export { readJson } from "../host/json_file.ts";
export { pathInFolder } from "../host/path_in_folder.ts";
export { parentOf, type PathOptions, slashed, trimmedPath } from "../host/paths.ts";
export { replaceFolder, type ReplaceOptions } from "../host/replace_folder.ts";
export { fromBlocks, toBlocks } from "./blocks.ts";
export type { Blocked } from "../../kernels/blocks.ts";
export { fromBf16, fromF16, toBf16, toF16 } from "./floats.ts";
export {
  openSafetensors,
  type RowRange,
  type SafetensorsFile,
  type StoredDType,
  type StoredSpec,
} from "./safetensors.ts";
export { type TensorToStore, writeSafetensors, type WriteSafetensorsOptions } from "./safetensors_write.ts";
