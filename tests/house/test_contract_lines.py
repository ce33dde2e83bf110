"""What hosts of these cells have always been held to, line by line, and the test of ours that holds us to it.

A test that is renamed or deleted fails here, so that no line of the contract is lost by tidying up. `OTHERWISE` are the
lines that we do not follow: where that is written, and the test of what we do instead.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent

CELL_MANIFEST = {
    "name and version alone are a manifest": "manifest/test_cell.py::test_a_minimal_manifest_has_every_default",
    "names given twice count once, capabilities are in lower case": (
        "manifest/test_cell.py::test_a_field_is_read_and_tidied"
    ),
    "integers of a config have 64 bits": "vectors/test_vectors.py::test_a_config_value_has_the_published_bytes",
    "wasm names the module": "manifest/test_cell.py::test_the_module_is_found_from_the_manifest",
    "tables in a config are kept as deep as they are": "manifest/test_cell.py::test_a_field_is_read_and_tidied",
    "a digest may be in capitals": "manifest/test_cell.py::test_a_field_is_read_and_tidied",
    "what is no digest is told as one": "manifest/test_cell.py::test_a_value_that_cannot_be_used_is_refused_by_name",
    "host_consumes is read without looking for a provider": "manifest/test_cell.py::test_a_field_is_read_and_tidied",
    "a host function twice, blank or with a space": (
        "manifest/test_cell.py::test_a_value_that_cannot_be_used_is_refused_by_name"
    ),
    "no name, no version": "manifest/test_cell.py::test_a_cell_must_have_a_proper_name_and_a_version",
    "an unknown field is named": "manifest/test_cell.py::test_an_unknown_field_is_refused_with_advice",
    "text that is not TOML": "manifest/test_cell.py::test_a_cell_must_have_a_proper_name_and_a_version",
    "a config reads back equal": "abi/test_config.py::test_a_config_reads_back_equal",
    "no config and an empty one are no bytes": "abi/test_config.py::test_no_config_is_no_bytes",
}

SETS = {
    "a consumer listed first starts after its provider": (
        "manifest/test_graph.py::"
        "test_a_consumer_listed_first_starts_after_the_provider_it_depends_on_and_both_may_ask_each_other"
    ),
    "two may consume from each other": "manifest/test_graph.py::test_each_consumed_function_has_its_provider",
    "a function of nobody, or of two": "manifest/test_graph.py::test_a_set_that_cannot_start_is_refused_whole",
    "the script takes the place of an inline one": (
        "manifest/test_app.py::test_the_orchestrator_is_given_its_script_byte_for_byte_beside_its_other_config"
    ),
    "cells of an application start in order, their paths are absolute": (
        "manifest/test_app.py::test_cells_come_in_the_order_of_their_dependencies_with_absolute_paths"
    ),
    "another script than the pinned one, or none pinned, or an orchestrator that is no cell": (
        "manifest/test_app.py::test_an_orchestrator_that_cannot_be_is_refused"
    ),
    "a pinned module, and one that was changed": (
        "manifest/test_app.py::test_a_pinned_module_is_accepted_and_a_changed_one_refused"
    ),
    "pins may be demanded": ("manifest/test_app.py::test_every_cell_must_pin_its_module_where_the_application_says_so"),
    "placements have addresses, a single one has the bare name": (
        "manifest/test_app.py::test_an_address_is_the_name_alone_or_with_its_instance"
    ),
    "config of a placement reaches every instance": (
        "manifest/test_app.py::test_config_goes_on_top_of_the_cells_own_in_every_instance_also_inside_tables"
    ),
    "an instance twice": "manifest/test_app.py::test_placements_that_make_no_sense_are_refused",
    "a cell's path twice": "manifest/test_app.py::test_a_cell_listed_twice_is_refused_however_it_is_written",
    "a cell's name twice": "manifest/test_app.py::test_two_cells_of_one_name_are_refused_as_a_set",
    "a cell that is not there": (
        "manifest/test_app.py::test_what_is_wrong_with_a_cell_is_told_with_its_path_as_written"
    ),
    "a path that is absolute": "manifest/test_app.py::test_an_absolute_path_is_refused",
}

HOSTS = {
    "aliases, routes and the order of applications": (
        "manifest/test_host.py::"
        "test_aliases_are_kept_and_the_only_instance_is_where_a_route_leads_and_dependencies_start_first"
    ),
    "instances beyond the aliases have numbers": (
        "manifest/test_host.py::test_three_instances_with_one_alias_are_named_after_it_and_then_by_number"
    ),
    "a function of a direct dependency": (
        "manifest/test_host.py::test_a_function_of_a_direct_dependency_may_be_consumed"
    ),
    "a function that is missing or ambiguous": (
        "manifest/test_host.py::test_a_function_without_exactly_one_provider_is_refused"
    ),
    "a function of who depends on it": (
        "manifest/test_host.py::test_a_function_of_who_depends_on_it_and_one_of_its_own_may_not_be_consumed"
    ),
    "ids, namespaces, aliases, circles, unknown dependencies and absolute paths": (
        "manifest/test_host.py::test_an_application_that_makes_no_sense_is_refused"
    ),
    "a route that is not canonical": "manifest/test_host.py::test_a_path_that_is_not_canonical_is_refused",
    "a route twice, to nobody, or to another application's instance": (
        "manifest/test_host.py::test_a_route_that_leads_nowhere_is_refused"
    ),
    "two applications of one module": (
        "manifest/test_host.py::test_two_applications_of_one_module_are_applications_of_their_own"
    ),
}

COMMAND = {
    "no input, or two kinds": "cli/test_serve.py::test_inputs_that_make_no_sense_end_with_2",
    "cells alone": "e2e/test_run.py::test_several_cells_and_kinds_of_paths_run_together",
    "manifests are repeated": "e2e/test_run.py::test_manifests_are_repeated_and_separated_by_commas",
    "manifests start in order": "manifest/test_graph.py::test_a_set_is_read_from_files_and_directories_in_start_order",
    "an application alone": "e2e/test_app.py::test_the_command_runs_an_application",
    "a host alone": (
        "e2e/test_composition_command.py::test_a_host_is_started_by_its_manifest_or_the_folder_that_holds_it"
    ),
    "the gateway's address may be a port": (
        "capabilities/transport/test_gateway.py::test_an_address_may_be_a_port_alone"
    ),
    "the gateway has an address": (
        "capabilities/transport/test_gateway.py::test_an_address_that_cannot_be_meant_is_refused"
    ),
    "heartbeat from boot to a clean exit": "e2e/test_run.py::test_heartbeat_end_to_end",
    "echo answers, and 404 elsewhere": "e2e/test_run.py::test_echo_end_to_end",
    "it ends in time": "e2e/test_signals.py::test_an_idle_host_ends_at_once",
}

CELLS = {
    "what is always there": "kernel/test_registry.py::test_what_is_always_bound_needs_no_declaration",
    "what is declared": "kernel/test_registry.py::test_a_declared_capability_is_bound",
    "what is not declared": "kernel/test_registry.py::test_an_undeclared_capability_is_a_stub_that_answers_99",
    "what nobody has": "kernel/test_registry.py::test_threat_42_an_unknown_capability_is_named_with_the_nearest",
    "an idle step is left out while the guest is busy": (
        "kernel/test_cell.py::test_an_idle_step_is_left_out_while_another_runs"
    ),
    "an event is not": "kernel/test_cell.py::test_an_event_is_not_left_out_while_another_runs",
    "a cell has the scope it was given": (
        "e2e/test_app.py::test_an_extension_sees_scope_and_address_of_each_placement"
    ),
    "a legacy scope keeps its bare name": (
        "ext/test_scope.py::test_a_legacy_scope_is_reached_by_its_bare_name_and_any_other_by_its_routing_id"
    ),
    "a typed response is lifted and given back": (
        "kernel/test_calls.py::test_a_typed_response_is_lifted_and_then_given_back"
    ),
    "a typed call needs pulp_post_return, an opaque one does not": (
        "kernel/test_calls.py::test_a_typed_call_of_a_module_that_cannot_give_back_is_refused_and_an_opaque_one_works"
    ),
    "a typed catalogue with lists in lists": (
        "kernel/test_typed_records.py::"
        "test_lists_in_lists_and_a_map_that_is_absent_are_lifted_and_nothing_stays_allocated"
    ),
    "typed and opaque functions of one cell": (
        "kernel/test_typed_records.py::test_an_opaque_call_of_the_same_cell_goes_on_as_it_was"
    ),
    "32 that ask at once get one compilation": (
        "kernel/test_modules.py::test_a_module_is_compiled_once_however_many_ask"
    ),
    "two instances of one module share nothing": "kernel/test_instance.py::test_two_instances_share_nothing",
    "a module that was dropped lives on where it runs": (
        "kernel/test_modules.py::test_a_module_that_was_forgotten_is_compiled_anew_while_its_cell_goes_on"
    ),
    "cells of one module are compiled once and closed one by one": (
        "e2e/test_composition.py::test_every_instance_has_cells_of_its_own_and_one_compilation"
    ),
    "a runaway is ended near its budget": (
        "kernel/test_supervisor.py::test_a_runaway_is_ended_near_its_budget_counted_and_reported_once"
    ),
    "200 healthy steps": "kernel/test_supervisor.py::test_two_hundred_healthy_steps_are_no_runaway",
    "liveness is told": "kernel/test_supervisor.py::test_liveness_is_told_after_each_probe_until_the_cell_stops",
    "new, ready, stopped": "kernel/test_supervisor.py::test_a_cell_goes_from_new_to_ready_to_stopped",
    "a call without time does not kill the cell": (
        "kernel/test_cell.py::test_a_call_whose_time_is_over_before_it_begins_does_not_harm_the_cell"
    ),
}

EXTENSIONS = {
    "the only provider is taken": (
        "kernel/test_selection.py::test_the_only_implementation_is_used_whether_it_says_who_it_is_or_not"
    ),
    "of two the pinned one": "kernel/test_selection.py::test_of_two_the_pinned_one_is_used",
    "what is not clear is closed": "kernel/test_selection.py::test_what_is_not_clear_is_refused",
    "a part that is empty or has NUL": "ext/test_scope.py::test_a_part_that_is_blank_or_contains_nul_is_refused",
    "the legacy scope": "ext/test_scope.py::test_the_scope_of_a_blank_cell_is_the_default_one",
    "keys differ in every part": (
        "ext/test_scope.py::test_resource_keys_differ_in_every_part_and_are_written_with_lengths"
    ),
    "delimiters in names do not matter": "ext/test_scope.py::test_two_scopes_never_share_a_routing_id",
    "one value for a key": "ext/test_scope.py::test_a_factory_makes_one_value_for_a_key_and_asks_again_after_an_error",
    "the scope of a set-up": (
        "ext/test_scope.py::test_a_set_up_is_for_the_scope_it_names_and_else_for_the_host_as_a_whole"
    ),
    "an endpoint is told": "e2e/test_composition.py::test_each_instance_has_endpoints_of_its_own_and_they_go_with_it",
}

RUNTIME = {
    "a stop is no crash": "e2e/test_host.py::test_a_stop_of_idle_cells_is_never_taken_for_a_crash",
    "siblings are of one application": (
        "e2e/test_composition_calls.py::test_threat_30_instances_of_one_application_cannot_call_each_other"
    ),
    "the exact provider": (
        "e2e/test_siblings.py::test_threat_30_only_what_one_consumes_and_the_other_provides_can_be_called"
    ),
    "placements are called by their whole address": (
        "e2e/test_app.py::test_threat_30_only_the_exact_address_of_a_placement_is_called"
    ),
    "placements are one provider": "manifest/test_app.py::test_a_cell_that_runs_twice_is_one_provider",
    "placements keep apart what they store": (
        "e2e/test_app.py::test_threat_47_placements_of_one_cell_keep_their_files_apart"
    ),
    "placements have events of their own": (
        "e2e/test_app.py::test_an_event_reaches_the_placement_it_names_and_no_other"
    ),
    "the bare name is not there": "e2e/test_app.py::test_an_event_that_could_mean_several_is_refused_and_told",
    "an observer is told with identities": (
        "e2e/test_composition_hooks.py::"
        "test_an_observer_is_told_of_every_application_after_its_start_and_before_its_end"
    ),
    "an observer of one host does not disturb the one of the process": (
        "e2e/test_composition_hooks.py::test_the_observer_of_the_process_is_told_unless_a_host_has_another"
    ),
    "a single application and a single instance have names": (
        "e2e/test_composition_hooks.py::test_one_application_alone_has_an_observer_too_and_cells_have_none"
    ),
    "a failed start takes back its own endpoints": (
        "e2e/test_composition.py::test_a_failed_start_leaves_no_endpoint_and_those_of_others_stay_until_they_stop"
    ),
    "two instances share neither events nor storage": (
        "e2e/test_composition.py::test_threat_47_three_applications_of_one_module_share_nothing"
    ),
    "access to a cell that is not there": (
        "e2e/test_composition_hooks.py::test_access_reaches_the_cells_of_one_application_and_no_other"
    ),
    "access after the end": ("e2e/test_composition_hooks.py::test_access_is_revoked_when_the_application_stops"),
    "a set-up that several share must be scoped": (
        "e2e/test_composition.py::test_a_capability_that_several_instances_share_must_let_go_of_one"
    ),
    "set-up and teardown match": (
        "e2e/test_composition.py::test_a_capability_is_set_up_and_torn_down_once_for_each_instance"
    ),
    "settings are a copy, and taken literally": (
        "e2e/test_composition.py::test_what_the_operator_set_is_a_copy_of_its_own_for_each_instance"
    ),
    "stopping again does nothing": (
        "e2e/test_composition.py::test_a_host_starts_once_and_never_again_after_it_was_stopped"
    ),
    "the same provider twice": (
        "ext/test_capability.py::test_two_of_one_name_may_be_registered_but_not_the_very_same_twice"
    ),
    "a provider that comes late": (
        "ext/test_capability.py::test_what_is_registered_later_is_not_of_a_registry_that_is_there"
    ),
    "calls to a direct dependency": "e2e/test_composition_calls.py::test_a_function_of_a_direct_dependency_answers",
    "calls that no manifest permits": (
        "e2e/test_composition_calls.py::test_what_the_manifests_do_not_permit_is_11_and_told"
    ),
    "an instance that was withdrawn": (
        "e2e/test_composition_calls.py::test_an_instance_that_is_withdrawn_is_4_and_a_replacement_gets_only_new_calls"
    ),
    "a withdrawal waits": "e2e/test_composition_calls.py::test_a_withdrawal_waits_for_the_call_in_flight",
    "64 calls and a withdrawal": ("e2e/test_composition_calls.py::test_64_callers_and_a_withdrawal_get_an_answer_each"),
    "endpoints by instance": (
        "hosting/test_endpoints.py::test_an_address_is_found_by_application_instance_capability_and_role"
    ),
    "a second public endpoint": "hosting/test_endpoints.py::test_a_role_is_taken_by_the_cell_that_has_it_first",
    "an address before the start and after the end": (
        "e2e/test_composition_gateway.py::test_the_address_of_each_application_is_the_gateways_and_gone_with_it"
    ),
    "the prefix is taken off": "capabilities/transport/test_gateway.py::test_the_prefix_is_taken_off",
    "escapes and query stay": (
        "capabilities/transport/test_gateway.py::test_escapes_and_the_query_stay_as_they_were_sent"
    ),
    "a path that only begins like a prefix": (
        "capabilities/transport/test_gateway.py::test_a_path_that_nobody_has_is_404"
    ),
    "headers that are the host's": (
        "capabilities/transport/test_gateway_headers.py::"
        "test_threat_38_no_client_says_whose_request_it_is_or_how_it_came"
    ),
    "two cookies": (
        "capabilities/transport/test_gateway_headers.py::test_redirects_and_cookies_of_an_application_are_its_own"
    ),
    "headers of a stream": (
        "capabilities/transport/test_gateway_streams.py::"
        "test_an_event_stream_passes_and_ends_with_its_instance_while_its_connection_stays"
    ),
    "a prefix of two": (
        "capabilities/transport/test_gateway.py::test_threat_39_a_prefix_for_two_is_ambiguous_and_both_are_named"
    ),
    "a route to nobody": (
        "capabilities/transport/test_gateway.py::test_a_route_to_an_instance_that_is_not_there_stops_the_start"
    ),
    "503 while an application is away": (
        "capabilities/transport/test_gateway.py::test_an_instance_that_is_down_is_503_until_it_is_up_again"
    ),
    "the gateway stops first": (
        "capabilities/transport/test_gateway.py::test_closing_lets_an_exchange_in_flight_end_and_accepts_no_other"
    ),
    "start in order and stop in reverse": (
        "e2e/test_composition.py::test_applications_start_after_those_they_depend_on_and_stop_in_reverse"
    ),
    "a rollback includes what failed": (
        "e2e/test_composition.py::test_one_application_that_fails_takes_down_all_that_started_before_it"
    ),
    "an instance that was begun twice": "manifest/test_host.py::test_an_application_that_makes_no_sense_is_refused",
    "a second start": "e2e/test_composition.py::test_a_host_starts_once_and_never_again_after_it_was_stopped",
    "one compilation, counters of their own": (
        "e2e/test_composition.py::test_every_instance_has_cells_of_its_own_and_one_compilation"
    ),
    "one route in two applications": (
        "e2e/test_composition_gateway.py::"
        "test_threat_39_the_same_route_of_two_applications_stays_separate_behind_two_prefixes"
    ),
    "service resumes after a reload": (
        "e2e/test_composition_gateway.py::test_requests_go_on_while_a_cell_behind_the_gateway_is_reloaded"
    ),
    "an orchestrator asks two siblings": (
        "e2e/test_orchestrator.py::test_the_orchestrator_asks_two_siblings_and_keeps_its_state_from_one_run_to_the_next"
    ),
    "an operator's command, active or not, known or not, too long": (
        "e2e/test_composition_hooks.py::test_a_command_reaches_its_cell_while_the_application_runs"
    ),
    "a command of another identity": (
        "e2e/test_composition_hooks.py::test_two_hosts_of_one_identity_cannot_both_have_its_commands"
    ),
    "a cell's teardown is told the name it is reached by": (
        "e2e/test_app.py::test_an_extension_sees_scope_and_address_of_each_placement"
    ),
}

EGRESS = {
    "private, loopback, metadata, unspecified": (
        "net/test_egress.py::test_an_address_that_is_not_public_is_refused_with_its_kind"
    ),
    "public addresses": "net/test_egress.py::test_a_public_address_may_be_dialled",
    "no address": "net/test_egress.py::test_a_name_without_addresses_is_refused",
    "an entry exempts what it says, in any case, at any port unless it names one, a network its range": (
        "net/test_egress.py::test_an_entry_exempts_exactly_what_it_says"
    ),
}

#: The line; where in `docs/` ours is written, and words that stand there; the test of ours.
OTHERWISE = {
    "federated functions and migratable cells are accepted": (
        "reference/manifest.md",
        "`federated_callers`",
        "manifest/test_cell.py::test_a_field_whose_feature_does_not_exist_is_refused_with_a_sentence",
    ),
    "a reload gives a new port": (
        "reference/gateway.md",
        "The one listener of a host with several applications",
        "e2e/test_composition_gateway.py::test_requests_go_on_while_a_cell_behind_the_gateway_is_reloaded",
    ),
    "an empty list of exemptions allows nothing": (
        "how-to/outbound.md",
        "may reach every **public** address",
        "net/test_egress.py::test_a_public_address_may_be_dialled",
    ),
    "the test kit refuses to work without a storage root": (
        "how-to/test-a-cell.md",
        "is a folder that goes away",
        "testing/test_fake_host.py::test_a_storage_root_of_the_test_is_left_alone",
    ),
}

LINES = CELL_MANIFEST | SETS | HOSTS | COMMAND | CELLS | EXTENSIONS | RUNTIME | EGRESS


@functools.cache
def names_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_there(test: str) -> bool:
    file, _, name = test.partition("::")
    return (TESTS / file).is_file() and name in names_in(TESTS / file)


def test_every_line_of_the_contract_has_a_test_that_is_there() -> None:
    assert {line: test for line, test in LINES.items() if not is_there(test)} == {}
    assert len(LINES) == sum(map(len, (CELL_MANIFEST, SETS, HOSTS, COMMAND, CELLS, EXTENSIONS, RUNTIME, EGRESS))), (
        "two lines have the same words"
    )


@pytest.mark.parametrize("line", OTHERWISE)
def test_a_line_that_is_not_followed_is_documented_and_what_we_do_instead_is_tested(line: str) -> None:
    page, words, test = OTHERWISE[line]

    assert words in (ROOT / "docs" / page).read_text()
    assert is_there(test)
