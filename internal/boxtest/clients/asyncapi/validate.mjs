// Reads an AsyncAPI document from standard input and says what is wrong with it.
// It asks nobody on the network: the document refers to itself alone.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
const wrong = diagnostics.filter((d) => d.severity <= 1); // errors and warnings
for (const d of wrong) {
  console.log(`${d.range.start.line + 1}: ${d.code}: ${d.path.join('.')}: ${d.message}`);
}
process.exitCode = document && wrong.length === 0 ? 0 : 1;
