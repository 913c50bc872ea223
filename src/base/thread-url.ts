/**
 * Where the code of a thread is found. `importer` is the `import.meta.url` of a file in the same folder. In a compiled executable
 * entry points are found from the root of the sources: this repository's, or an application's.
 */
export function threadUrl(
  importer: string,
  { folder, file }: { readonly folder: string; readonly file: string },
  exists: (url: URL) => boolean,
): string {
  const isCompiled = /\/(\$bunfs|~BUN)\//.test(importer); // the latter on Windows
  const places = isCompiled ? [`./${folder}/`, `./node_modules/mantou/src/${folder}/`] : ["./"];
  const found = places.find((place) => exists(new URL(`${place}${file}.js`, importer)));
  return new URL(`${found ?? places[0]}${file}.ts`, importer).href;
}
