# What every attack program ends with: one line of JSON, from names to what was reached.
only = S.get("only")
print(json.dumps({it.__name__: apart(it) for it in attacks if only is None or it.__name__ in only}))
