"""Code that generated modules carry with them; see ``diglot.codegen.helpers``. Never imported by
Diglot itself.
"""
