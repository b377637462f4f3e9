from dashboard.markdown_text import escape


def test_punctuation_is_escaped_and_words_are_kept():
    assert escape("a *b*\n:red[c] $x$ <i>") == r"a \*b\* \:red\[c\] \$x\$ \<i\>"
    assert escape("![y](http://z) 🌱 é") == r"\!\[y\]\(http\:\/\/z\) 🌱 é"
