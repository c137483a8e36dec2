"""A small web server for one page: who may send it requests, and how much of it one client may use.

`server` listens and runs, `security` refuses, `connections` and `limits` set deadlines and shares. The search
page and the judging page run behind it.
"""
