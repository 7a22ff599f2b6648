// What the documentation of E2B's code interpreter shows for JavaScript.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const modules = createRequire(pathToFileURL(process.env.MODULES + '/'))
const { Sandbox } = modules('@e2b/code-interpreter')
const sandbox = await Sandbox.create({ timeoutMs: 300_000 })
try {
  await sandbox.runCode('x = 41')
  const done = await sandbox.runCode('x += 1; print("seen"); x')
  assert.equal(done.text, '42')
  assert.equal(done.logs.stdout.join(''), 'seen\n')
  const failed = await sandbox.runCode('1 / 0')
  assert.equal(failed.error.name, 'ZeroDivisionError')
  const context = await sandbox.createCodeContext({ cwd: '/tmp' })
  const there = await sandbox.runCode('import os; os.getcwd()', { context })
  assert.equal(there.text, '/tmp')
  console.log('ok interpreter')
} finally {
  await sandbox.kill()
}
