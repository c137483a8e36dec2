"""The address of a database's server, taken apart so that no message repeats its password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from lineup.errors import UserError


@dataclass(frozen=True)
class ServerAddress:
    """url: without the account; user, password: decoded, empty where there is none."""

    url: str
    user: str
    password: str


def parse(address: str, form: str) -> ServerAddress:
    """Takes an address apart.

    Args:
        form: how addresses of the database look, for the message.
    Raises:
        UserError: it is no address of a server; the sentence does not repeat it, as a part may be a password.
    """
    try:
        parts = urlsplit(address)
        account, _, host = parts.netloc.rpartition("@")
        # An @ behind the host belongs to a password with a character that ends the host.
        if "@" in account or "@" in parts.path + parts.fragment or not parts.scheme:
            raise ValueError
        user, _, password = account.partition(":")
        return ServerAddress(urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password))
    except ValueError:
        raise UserError(
            f"--into: the address cannot be read; write {form}, and in a password %40 for @, %2F for /, "
            "%3A for :, %3F for ? and %23 for #"
        ) from None


def secrets(address: str) -> tuple[str, ...]:
    """The password, or the key before a host, as it is written in an address and as it is meant."""
    written = address.rpartition("@")[0].partition("://")[2]
    password = written.partition(":")[2]
    return tuple({password, unquote(password)} - {""})
