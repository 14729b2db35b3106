/** Runs the cells of one program, as run.py does: `node run.mjs PROGRAM CELLS`. */
const [name, cells] = process.argv.slice(2);
const program = await import(`./${name}.mjs`);
for (const [cell, question] of Object.entries(JSON.parse(cells))) {
  const outcome = { cell };
  if (program.NOT?.[cell]) outcome.reason = program.NOT[cell];
  else {
    try {
      outcome.answer = await program[cell](question);
    } catch (error) {
      outcome.error = String(error?.stack ?? error).slice(0, 1500);
    }
  }
  console.log(`\n${JSON.stringify(outcome)}`);
}
process.exit(0);
