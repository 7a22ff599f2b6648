// What the documentation of E2B's JavaScript package shows, against a real server. The package is
// unchanged, and finds the server by its environment variables alone.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import http from 'node:http'
import { pathToFileURL } from 'node:url'

const modules = createRequire(pathToFileURL(process.env.MODULES + '/'))
const { Sandbox, CommandExitError, NotFoundError, TimeoutError } = modules('e2b')
const EDGE = process.env.EDGE
const wanted = process.argv.slice(2)
const tests = []
let shared

class Skip extends Error {}

const test = (name, run) => tests.push([name, run])

async function box() {
  shared ??= await Sandbox.create({ timeoutMs: 600_000, envs: { WORD: 'global' }, metadata: { for: 'all' } })
  return shared
}

async function waitUntil(holds, what, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const found = await holds()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  assert.fail(`not within ${seconds} s: ${what}`)
}

// What a port answers by its name: `fetch` lets nobody choose a host.
function atPort(sandbox, port, headers = {}) {
  const host = sandbox.getHost(port)
  const [hostname, at] = EDGE.split(':')
  return new Promise((resolve, reject) => {
    const request = http.get({ hostname, port: at, path: '/', headers: { host, ...headers } }, (answer) => {
      let body = ''
      answer.on('data', (piece) => (body += piece))
      answer.on('end', () => resolve([answer.statusCode, body]))
    })
    request.on('error', reject)
  })
}

test('create_and_info', async () => {
  const sandbox = await box()
  assert.equal(await sandbox.isRunning(), true)
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.deepEqual(info.metadata, { for: 'all' })
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.getInfo()).endAt.getTime(), info.endAt.getTime())
})

test('commands', async () => {
  const sandbox = await box()
  const seen = []
  const done = await sandbox.commands.run('echo out; echo err >&2; echo $WORD', { onStdout: (it) => seen.push(it) })
  assert.deepEqual([done.stdout, done.stderr, done.exitCode], ['out\nglobal\n', 'err\n', 0])
  assert.equal(seen.join(''), done.stdout)
  await assert.rejects(sandbox.commands.run('exit 7'), (error) => error instanceof CommandExitError && error.exitCode === 7)
  await assert.rejects(sandbox.commands.run('sleep 30', { timeoutMs: 1000 }), TimeoutError)
  const handle = await sandbox.commands.run('sleep 60', { background: true })
  assert.ok((await sandbox.commands.list()).some((it) => it.pid === handle.pid))
  assert.equal(await handle.kill(), true)
  await assert.rejects(handle.wait())
  assert.equal(await sandbox.commands.kill(handle.pid), false)
  const reader = await sandbox.commands.run('head -c 6', { background: true, stdin: true })
  await sandbox.commands.sendStdin(reader.pid, 'hello\n')
  assert.equal((await reader.wait()).stdout, 'hello\n')
})

test('files', async () => {
  const { files } = await box()
  await files.write('notes/a b.txt', 'one')
  assert.equal(await files.read('notes/a b.txt'), 'one')
  const bytes = new Uint8Array(3_000_000).fill(7)
  await files.write('blob', new Blob([bytes]))
  assert.deepEqual(await files.read('blob', { format: 'bytes' }), bytes)
  await files.write('empty', '')
  assert.equal(await files.read('empty'), '')
  await files.write([{ path: 'many/a', data: 'A' }, { path: 'many/b', data: 'B' }])
  assert.deepEqual((await files.list('many')).map((it) => it.name), ['a', 'b'])
  assert.equal(await files.makeDir('many/sub'), true)
  assert.equal(await files.makeDir('many/sub'), false)
  await files.rename('many/a', 'many/sub/a')
  assert.equal(await files.exists('many/a'), false)
  await files.remove('many')
  await assert.rejects(files.read('many/b'), NotFoundError)
})

test('signed_addresses', async () => {
  const sandbox = await box()
  await sandbox.files.write('hello.txt', 'signed')
  const url = await sandbox.downloadUrl('hello.txt')
  assert.equal(await (await fetch(url)).text(), 'signed')
  const old = await sandbox.downloadUrl('hello.txt', { useSignatureExpiration: -120 })
  const refused = await fetch(old)
  assert.equal(refused.status, 401)
  assert.deepEqual(await refused.json(), { code: 401, message: 'signature is already expired' })
  const form = new FormData()
  form.append('file', new Blob(['sent']), 'up.txt')
  const sent = await fetch(await sandbox.uploadUrl('up.txt'), { method: 'POST', body: form })
  assert.deepEqual(await sent.json(), [{ name: 'up.txt', path: '/home/user/up.txt', type: 'file' }])
  assert.equal(await sandbox.files.read('up.txt'), 'sent')
})

test('watching', async () => {
  const { files } = await box()
  await files.makeDir('watched')
  const seen = []
  const handle = await files.watchDir('watched', (event) => seen.push([event.name, event.type]))
  await files.write('watched/new', 'x')
  await waitUntil(() => seen.length >= 3, 'three events')
  assert.deepEqual(seen, [['new', 'create'], ['new', 'chmod'], ['new', 'write']])
  await handle.stop()
})

test('terminals', async () => {
  const sandbox = await box()
  let seen = ''
  const terminal = await sandbox.pty.create({ cols: 91, rows: 24, onData: (data) => (seen += Buffer.from(data)) })
  const type = (text) => sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode(text))
  await type('stty size\n')
  await waitUntil(() => seen.includes('24 91'), 'its size')
  await sandbox.pty.resize(terminal.pid, { cols: 100, rows: 30 })
  await type('stty size\n')
  await waitUntil(() => seen.includes('30 100'), 'its new size')
  assert.equal(await sandbox.pty.kill(terminal.pid), true)
})

test('git', async () => {
  const sandbox = await box()
  if (!sandbox.git) throw new Skip('this version has no `git`')
  await sandbox.git.init('/home/user/repository', { initialBranch: 'main' })
  await sandbox.git.configureUser('Test', 'test@example.com')
  await sandbox.files.write('repository/file', 'content')
  await sandbox.git.add('/home/user/repository')
  await sandbox.git.commit('/home/user/repository', 'First')
  const { branches } = await sandbox.git.branches('/home/user/repository')
  assert.deepEqual(branches, ['main'])
})

test('ports', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  await sandbox.files.write('/tmp/pages/index.html', 'a page')
  const serve = 'python3 -m http.server --directory /tmp/pages --bind 127.0.0.1 8000'
  await sandbox.commands.run(serve, { background: true })
  await waitUntil(async () => (await atPort(sandbox, 8000))[0] === 200, 'a page')
  await sandbox.kill()
  const [status, body] = await atPort(sandbox, 8000)
  assert.equal(status, 502)
  const gone = { sandboxId: sandbox.sandboxId, message: 'The sandbox was not found', code: 502 }
  assert.deepEqual(JSON.parse(body), gone)
})

test('kill_is_seen_by_what_runs', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  let up
  const started = new Promise((resolve) => (up = resolve))
  const running = sandbox.commands.run('echo up; sleep 100', { onStdout: () => up(), timeoutMs: 0 })
  const ended = running.then(() => assert.fail('it ended well'), (error) => error)
  await started
  await sandbox.kill()
  assert.ok((await ended) instanceof Error)
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await Sandbox.kill(sandbox.sandboxId), false)
})

test('pause_and_resume', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  const pause = () => (sandbox.pause ?? sandbox.betaPause).call(sandbox)
  const handle = await sandbox.commands.run('sleep 1000', { background: true })
  await pause()
  assert.equal(await sandbox.isRunning(), false)
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.ok((await again.commands.list()).some((it) => it.pid === handle.pid))
  await again.kill()
})

test('snapshots', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  try {
    if (!sandbox.createSnapshot) throw new Skip('this version has no `createSnapshot`')
    await sandbox.files.write('state', 'before')
    const snapshot = await sandbox.createSnapshot()
    await sandbox.files.write('state', 'after')
    const made = await Sandbox.create(snapshot.snapshotId, { timeoutMs: 60_000 })
    assert.equal(await made.files.read('state'), 'before')
    await made.kill()
  } finally {
    await sandbox.kill()
  }
})

test('forks', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  try {
    if (!sandbox.fork) throw new Skip('this version has no `fork`')
    await sandbox.files.write('state', 'shared')
    const [fork] = await sandbox.fork()
    assert.equal(await fork.files.read('state'), 'shared')
    await fork.kill()
  } finally {
    await sandbox.kill()
  }
})

let failed = false
for (const [name, run] of tests) {
  if (wanted.length && !wanted.includes(name)) continue
  const began = Date.now()
  try {
    await run()
    console.log(`ok ${name} ${((Date.now() - began) / 1000).toFixed(2)}`)
  } catch (error) {
    if (error instanceof Skip) {
      console.log(`skip ${name}: ${error.message}`)
      continue
    }
    failed = true
    console.log(`FAIL ${name}`)
    console.error(error)
  }
}
await shared?.kill()
process.exit(failed ? 1 : 0)
