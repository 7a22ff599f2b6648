"""What the documentation of E2B's code interpreter shows, against a real server and real kernels."""

import json
import os
import sys
import time

sys.path.insert(0, os.environ["CHECK"])
from check import Skip, raises, run  # noqa: E402

from e2b_code_interpreter import Sandbox  # noqa: E402

shared = None


def box():
    global shared
    if shared is None:
        shared = Sandbox.create(timeout=600, envs={"WORD": "global"})
    return shared


def close():
    if shared is not None:
        shared.kill()


def test_variables_outlive_a_request():
    sandbox = box()
    first = sandbox.run_code("x = 41")
    assert first.error is None and first.text is None, first
    second = sandbox.run_code("x += 1; x")
    assert second.text == "42" and second.results[0].is_main_result, second
    assert second.execution_count == first.execution_count + 1
    assert sandbox.run_code("'a text'").text == "a text"


def test_output_comes_as_it_is_written():
    sandbox = box()
    out, err, at = [], [], []

    def note(message):
        out.append(message.line)
        at.append(time.monotonic())

    code = "import sys, time\nprint('one'); sys.stdout.flush(); time.sleep(1)\n" \
        "print('two'); print('no', file=sys.stderr)"
    done = sandbox.run_code(code, on_stdout=note, on_stderr=lambda it: err.append(it.line))
    assert "".join(out) == "one\ntwo\n" and "".join(err) == "no\n", (out, err)
    assert at[-1] - at[0] > 0.5, "not all at the end"
    assert "".join(done.logs.stdout) == "one\ntwo\n"


def test_errors_have_a_trace():
    failed = box().run_code("def f():\n    return 1 / 0\nf()")
    assert failed.error.name == "ZeroDivisionError", failed
    assert failed.error.value == "division by zero" and "f()" in failed.error.traceback


def test_a_chart_is_a_picture_and_data():
    code = (
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2, 3], [4, 5, 6], label='a line')\n"
        "plt.title('A chart'); plt.xlabel('x'); plt.ylabel('y'); plt.show()"
    )
    shown = box().run_code(code)
    assert shown.error is None, shown.error
    result = shown.results[0]
    assert result.png.startswith("iVBOR"), "base64 of a PNG"
    assert result.chart is not None and result.chart.title == "A chart", result.chart
    assert result.chart.type.value == "line", result.chart.type
    points = [tuple(map(float, it)) for it in result.chart.elements[0].points]
    assert points == [(1, 4), (2, 5), (3, 6)], points


def test_other_formats():
    code = "from IPython.display import HTML, Markdown, JSON, display\n" \
        "display(HTML('<b>x</b>')); display(Markdown('# y')); display(JSON({'a': [1]}))"
    results = box().run_code(code).results
    assert [results[0].html, results[1].markdown, results[2].json] == ["<b>x</b>", "# y", {"a": [1]}]


def test_contexts_are_apart():
    sandbox = box()
    context = sandbox.create_code_context(cwd="/tmp")
    sandbox.run_code("y = 1", context=context)
    assert sandbox.run_code("y", context=context).text == "1"
    assert sandbox.run_code("y").error.name == "NameError"
    assert sandbox.run_code("import os; os.getcwd()", context=context).text == "/tmp"
    if not hasattr(sandbox, "list_code_contexts"):
        raise Skip("this version lists no contexts")
    assert context.id in [it.id for it in sandbox.list_code_contexts()]
    sandbox.restart_code_context(context)
    assert sandbox.run_code("y", context=context).error.name == "NameError"
    sandbox.remove_code_context(context)
    assert context.id not in [it.id for it in sandbox.list_code_contexts()]
    raises(Exception, lambda: sandbox.run_code("1", context=context))


def test_variables_of_the_environment():
    sandbox = box()
    code = "import os; os.environ.get('WORD'), os.environ.get('ONE')"
    assert sandbox.run_code(code, envs={"ONE": "1", "WORD": "other"}).text == "('other', '1')"
    assert sandbox.run_code(code).text == "('global', None)"


def test_another_language():
    done = box().run_code("echo from $0; echo no >&2", language="bash")
    assert "from" in "".join(done.logs.stdout), done
    raises(Exception, lambda: box().run_code("x", language="cobol"))


def test_what_is_too_slow_is_interrupted():
    sandbox = box()
    raises(Exception, lambda: sandbox.run_code("import time\nwhile True: time.sleep(0.1)", timeout=1))
    assert sandbox.run_code("1 + 1", timeout=60).text == "2", "the kernel goes on"


def test_files_are_shared_with_commands():
    sandbox = box()
    sandbox.files.write("data.csv", "a,b\n1,2\n")
    assert sandbox.run_code("open('data.csv').read()").text == "a,b\\n1,2\\n"
    sandbox.run_code("open('out.json', 'w').write('{}')")
    assert json.loads(sandbox.files.read("out.json")) == {}


if __name__ == "__main__":
    run(globals(), close)
