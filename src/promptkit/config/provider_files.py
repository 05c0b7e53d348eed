"""Provider files: read, merged, and given the keys that may be sent to their addresses.

The user's files replace shipped ones, `[providers.NAME]` changes single keys, and the SDKs' own
address variables come last.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from promptkit._util import toml
from promptkit._util.toml import Table
from promptkit.errors import ConfigError, closest
from promptkit.routing.catalog import Catalog
from promptkit.types import Checked, Limits, Model, OnReject, Params, PriceOverride, Provider, Reasoning

from .keys import VARIABLE_NAME, FoundKey, Keys, KeySources, Origin, Trust, key_refusal, url_problem
from .paths import shipped


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        ConfigError: it can't be read, or isn't UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as cause:
        raise ConfigError(f"can't be read: {cause.strerror}", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", file=path) from None


def read_folder(folder: Path) -> dict[str, Provider]:
    """Read the provider files of a folder; one that does not exist has none.

    Raises:
        ConfigError: with file and line.
    """
    return {
        file.stem: read_provider(file.stem, toml.parse(read_text(file), file=str(file)))
        for file in sorted(folder.glob("[!.]*.toml"))
    }


def read_shipped() -> dict[str, Provider]:
    """Read the providers that promptkit ships: the user's keys belong to their addresses."""
    return read_folder(shipped("providers"))


def read_providers(
    shipped_ones: Mapping[str, Provider], folders: Sequence[Path], overrides: toml.Table
) -> dict[str, Provider]:
    """Replace shipped providers by the user's files, then apply `[providers.NAME]`.

    The first folder that has a name wins.

    Raises:
        ConfigError: with file and line.
    """
    providers = dict(shipped_ones)
    for folder in reversed(folders):
        providers |= read_folder(folder)
    for name, table in overrides.items_tables():
        base = providers.get(name)
        if base is None and "adapter" not in table:
            raise table.fail(
                f"unknown provider {name!r}",
                remedy=f"{closest(name, providers)} A new one needs adapter and base_url.",
            )
        providers[name] = read_provider(name, table, base)
    return dict(sorted(providers.items()))


def at_env_address(provider: Provider, env: Mapping[str, str]) -> Provider:
    """Return the provider with the address that its SDK's own variable names, if it is set.

    Raises:
        ConfigError: it is not an address. The value isn't repeated: it may contain a password.
    """
    variable = provider.base_url_env or ""
    url = env.get(variable, "").strip()
    if not url:
        return provider
    problem = url_problem(url)
    if problem:
        raise ConfigError(f"{variable} {problem}", remedy=f"Unset {variable}, or set a plain address.")
    return dataclasses.replace(provider, base_url=url.rstrip("/"))


def user_trust(
    shipped_ones: Mapping[str, Provider],
    file_origin: Origin,
    providers: Mapping[str, Provider],
    env: Mapping[str, str],
    trusted_hosts: Sequence[str],
    trusted_keys: Sequence[str],
) -> Trust:
    """Gather the keys and hosts that the user trusts.

    They come from the shipped files, the addresses in the process environment, the user config's
    `trusted_hosts` and `trusted_keys`, and its providers if it is the configuration in use.
    """
    own = [*shipped_ones.values(), *(at_env_address(provider, env) for provider in shipped_ones.values())]
    if file_origin is Origin.USER:
        own += providers.values()
    return Trust.of(own, hosts=trusted_hosts, variables=trusted_keys)


def with_keys(providers: Mapping[str, Provider], sources: KeySources, trust: Trust) -> tuple[Catalog, Keys]:
    """Give each provider its key: the first one that may be sent to its address."""
    granted: dict[str, str] = {}
    seen: list[str] = []
    checked: dict[str, Provider] = {}
    for name, provider in providers.items():
        keys = list(sources.find(provider.api_key_env or ""))
        seen += [key.secret for key in keys]
        refusals = [_refusal(provider, key, trust) for key in keys]
        usable = [key for key, refusal in zip(keys, refusals, strict=True) if refusal is None]
        if usable:
            granted[name] = usable[0].secret
        refusal = None if usable else next(filter(None, refusals), None)
        checked[name] = dataclasses.replace(
            provider,
            trusted=_is_trusted(provider, trust),
            key_allowed=refusal is None and provider.key_allowed,
            key_why=refusal or provider.key_why,
        )
    return Catalog(checked), Keys(granted, seen)


def _refusal(provider: Provider, key: FoundKey, trust: Trust) -> str | None:
    if key.problem or not (provider.api_key_env and provider.base_url):
        return key.problem
    return key_refusal(provider.api_key_env, provider.base_url, key.origin, trust)


def _is_trusted(provider: Provider, trust: Trust) -> bool:
    """Return whether the address may see the user's own data: the user's own key could be sent there."""
    if not (provider.api_key_env and provider.base_url):
        return False
    return key_refusal(provider.api_key_env, provider.base_url, Origin.USER, trust) is None


@dataclass(frozen=True, slots=True)
class Family:
    """The wire formats of an adapter and the packages that send them; the first is the default."""

    apis: tuple[str, ...]
    sdks: tuple[str, ...]


FAMILIES: Mapping[str, Family] = {
    "openai": Family(("responses", "chat"), ("openai",)),
    "anthropic": Family(("messages",), ("anthropic",)),
    "gemini": Family(("generate",), ("google-genai", "google-generativeai")),
    "local": Family(("chat",), ("xllamacpp",)),
}

REJECTABLE = tuple(
    sorted({field.name for field in dataclasses.fields(Params)} - {"max_output_tokens"} | {"prefill"})
)
"""The parameters that a model may reject; `prefill` is an assistant message at the end of the prompt. Not the output limit: the max cost depends on it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TOKENS_FIELDS = ("max_completion_tokens", "max_tokens")
_SHORTEST_TIMEOUT_S = 0.1


def read_provider(name: str, doc: Table, base: Provider | None = None) -> Provider:
    """Read a provider file, or the keys that change an already known provider.

    Args:
        name: the provider's name (the file's, without `.toml`).
        doc: the document, or the table `[providers.NAME]` of a config file.
        base: the provider as it was. Keys that `doc` doesn't give stay; limits and models
            (by id) are merged key by key. Without it, `adapter` and an address are required.

    Raises:
        PromptKitError: of the document's class (ConfigError), with file and line.
    """
    if not _NAME.fullmatch(name):
        raise doc.fail(
            f"{name!r} is not a name of a provider", remedy="Use lower case letters, digits, '-' and '_'."
        )
    adapter = _word(doc, "adapter", tuple(FAMILIES), None if base is None else base.adapter)
    family = FAMILIES[adapter]
    start = base or Provider(name, "", "", "")
    same = start.adapter == adapter
    provider = Provider(
        name=name,
        adapter=adapter,
        api=_word(doc, "api", family.apis, start.api if same else family.apis[0]),
        sdk=_word(doc, "sdk", family.sdks, start.sdk if same else family.sdks[0]),
        base_url=_address(doc, adapter, start.base_url),
        base_url_env=_variable(doc, "base_url_env", start.base_url_env),
        api_version=doc.text("api_version", start.api_version),
        api_key_env=_variable(doc, "api_key_env", start.api_key_env),
        checked=doc.choice("checked_how", Checked, start.checked),
        checked_on=doc.date("checked", start.checked_on),
        limits=_limits(doc.table("limits"), start.limits),
        models=_models(doc, start.models),
        open_models=doc.flag("open_models", start.open_models),
        open_model=_open_model(doc, start.open_model),
        price_provider=doc.text("price_provider", start.price_provider),
        prompt_cache=doc.flag("prompt_cache", start.prompt_cache),
        max_tokens_field=_word(doc, "max_tokens_field", _TOKENS_FIELDS, start.max_tokens_field),
        connect_timeout_s=_seconds(doc, "connect_timeout_s", start.connect_timeout_s),
        timeout_s=_seconds(doc, "timeout_s", start.timeout_s),
    )
    doc.finish()
    return provider


def _word(doc: Table, key: str, allowed: tuple[str, ...], default: str | None) -> str:
    value = doc.text(key) if default is None else doc.text(key, default)
    if value not in allowed:
        raise doc.fail(f"{key} can't be {value!r}", key, remedy=closest(value, allowed))
    return value


def _address(doc: Table, adapter: str, default: str | None) -> str | None:
    if adapter == "local":
        if "base_url" in doc:
            raise doc.fail(
                "the local adapter runs in this process and has no base_url",
                "base_url",
                remedy='For a server of your own, use adapter = "openai" and api = "chat".',
            )
        return None
    url = doc.text("base_url") if default is None else doc.text("base_url", default)
    problem = url_problem(url)
    if problem:
        raise doc.fail(f"base_url {problem}", "base_url")
    return url.rstrip("/")


def _variable(doc: Table, key: str, default: str | None) -> str | None:
    """Read the name of an environment variable; the empty string means none."""
    value = doc.text(key, default)
    if value and not VARIABLE_NAME.fullmatch(value):
        # The value isn't repeated: it may be the key itself, pasted here by mistake.
        raise doc.fail(
            f"{key} must be the name of an environment variable", key, remedy='For example "OPENAI_API_KEY".'
        )
    return value or None


def _seconds(doc: Table, key: str, default: float) -> float:
    return float(doc.number(key, default, least=_SHORTEST_TIMEOUT_S))


def _limits(table: Table, start: Limits) -> Limits:
    limits = Limits(
        requests_per_minute=table.integer("requests_per_minute", start.requests_per_minute, least=1),
        requests_per_day=table.integer("requests_per_day", start.requests_per_day, least=1),
        input_tokens_per_minute=table.integer(
            "input_tokens_per_minute", start.input_tokens_per_minute, least=1
        ),
        output_tokens_per_minute=table.integer(
            "output_tokens_per_minute", start.output_tokens_per_minute, least=1
        ),
        concurrency=table.integer("concurrency", start.concurrency, least=1),
    )
    table.finish()
    return limits


def _own_limits(model: Table, start: Limits | None) -> Limits | None:
    """Read a model's own limits; None if it has none."""
    table = model.table("limits")
    return _limits(table, start or Limits()) if "limits" in model else start


def _models(doc: Table, start: Mapping[str, Model]) -> dict[str, Model]:
    models = dict(start)
    seen: set[str] = set()
    for table in doc.tables("models"):
        model_id = table.text("id")
        if not model_id or model_id in seen:
            raise table.fail(f"the model id {model_id!r} is empty or given twice", "id")
        seen.add(model_id)
        models[model_id] = _model(table, models.get(model_id) or Model(model_id))
    return models


def _open_model(doc: Table, start: Model | None) -> Model | None:
    table = doc.table("open_model")
    return _model(table, start or Model("")) if "open_model" in doc else start


def _model(table: Table, start: Model) -> Model:
    model = Model(
        id=start.id,
        context_window=table.integer("context_window", start.context_window, least=1),
        max_output_tokens=table.integer("max_output_tokens", start.max_output_tokens, least=1),
        rejects=_rejects(table, start.rejects),
        on_reject=table.choice("on_reject", OnReject, start.on_reject),
        reasoning=_reasoning(table, start.reasoning),
        price=_price(table, start.price),
        price_ref=table.text("price_ref", start.price_ref),
        limits=_own_limits(table, start.limits),
        cache_min_tokens=table.integer("cache_min_tokens", start.cache_min_tokens, least=1),
    )
    table.finish()
    return model


def _rejects(table: Table, start: frozenset[str]) -> frozenset[str]:
    names = table.texts("rejects", tuple(start))
    for name in names:
        if name not in REJECTABLE:
            raise table.fail(
                f"rejects contains {name!r}, which is not a parameter",
                "rejects",
                remedy=closest(name, REJECTABLE),
            )
    return frozenset(names)


def _reasoning(
    table: Table, start: Mapping[Reasoning, str | int] | None
) -> Mapping[Reasoning, str | int] | None:
    words = table.table("reasoning")
    if "reasoning" not in table:
        return start
    levels: dict[Reasoning, str | int] = dict(start or {})
    for level in Reasoning:
        value: object = words.raw(level.value, levels.get(level))
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise words.fail(
                f"reasoning.{level} must be the provider's word or a number of tokens", level.value
            )
        if value is not None:
            levels[level] = value
    words.finish()
    return levels


def _price(table: Table, start: PriceOverride | None) -> PriceOverride | None:
    rates = table.table("price")
    if "price" not in table:
        return start
    price = PriceOverride(
        input_mtok=_rate(rates, "input_mtok", start and start.input_mtok),
        output_mtok=_rate(rates, "output_mtok", start and start.output_mtok),
        cache_read_mtok=rates.number("cache_read_mtok", start and start.cache_read_mtok, least=0),
        cache_write_mtok=rates.number("cache_write_mtok", start and start.cache_write_mtok, least=0),
    )
    rates.finish()
    return price


def _rate(rates: Table, key: str, default: Decimal | None) -> Decimal:
    return rates.number(key, least=0) if default is None else rates.number(key, default, least=0)
