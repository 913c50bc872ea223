/** The version of this package; a test holds it equal to package.json, which a compiled binary does not carry. */
export const VERSION = "0.1.0";
