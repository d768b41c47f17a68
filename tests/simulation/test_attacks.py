"""Adversaries send false things about members; the mesh keeps its promises."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length, only_at_length
from twisted_mesh.simulation.adversaries.askers import Asker
from twisted_mesh.simulation.adversaries.identities import Boaster, Forgetter, Minter
from twisted_mesh.simulation.adversaries.receipts import MintedSenders
from twisted_mesh.simulation.adversaries.runs import Recorder
from twisted_mesh.simulation.scenarios.attacks import ATTACKS, VICTIM
from twisted_mesh.simulation.scenarios.stage import Stage
from twisted_mesh.simulation.world import World


class TestAttacks(SynchronousTestCase):
    """All messages of honest members are delivered, rosters are right, and tables keep their limits."""

    def assert_nothing_comes_of(self, name: str, nodes: int) -> Stage:
        """Assert that every promise holds while some attack."""
        stage = ATTACKS[name].run(1, nodes)
        command = f"python -m twisted_mesh.simulation --schedule {name} --seed 1 --nodes {nodes}"
        self.assertEqual(stage.world.violations, [], command)
        self.assertGreater(stage.world.counts["deliveries"], 100)
        return stage

    def test_presence_with_a_false_signature(self) -> None:
        only_at_length()
        self.assert_nothing_comes_of("forged", 8)

    def test_presence_said_again_of_the_living_and_the_dead(self) -> None:
        only_at_length()
        self.assert_nothing_comes_of("replayed", 10)

    def test_one_that_accuses_everybody_as_fast_as_it_can(self) -> None:
        stage = self.assert_nothing_comes_of("storm", at_length(10, 7))
        self.assertEqual(stage.membership.wrongs, [])

    def test_accusers_that_are_made_up(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("minted-accusers", 8)
        self.assertEqual(stage.membership.wrongs, [])

    def test_members_that_ask_to_forget_everybody(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("forgotten", 11)
        self.assertEqual(stage.membership.wrongs, [])
        askers = [member for member in stage.world.members if isinstance(member, Forgetter)]
        self.assertGreater(min(member.asked for member in askers), 1_000)
        idle = [member.node.counts["idle_forgets"] for member in stage.world.honest()]
        self.assertGreater(min(idle), 100)  # some have no adversary as a neighbour for long
        self.assertGreater(max(idle), 1_000)

    def test_authors_without_end_through_one_member(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("minted", 8)
        [minter] = [member for member in stage.world.members if isinstance(member, Minter)]
        self.assertGreater(minter.minted, 4_000)
        for member in stage.world.honest():
            self.assertGreater(member.node.counts["authors_waiting"], 500)
            self.assertLess(len(member.node.roster), 1_000)

    def test_authors_that_fill_every_roster_push_nobody_out_and_keep_no_newcomer_out(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("full-roster", 8)
        self.assertEqual({len(member.node.roster) for member in stage.world.honest()}, {128})

    def test_members_that_are_kept_up_give_a_newcomer_room_soon_after_that(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("held-roster", 8)
        self.assertEqual({len(member.node.roster) for member in stage.world.honest()}, {128})

    def test_a_flood_of_made_up_authors_pushes_out_nothing_that_one_who_returns_lacks(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("flooded", 7)
        self.assertEqual(stage.notes[0], "1000 authors minted")

    def test_one_that_publishes_without_end_has_its_share_and_the_rest_comes_later(self) -> None:
        stage = self.assert_nothing_comes_of("babbled", at_length(8, 6))
        taken, refused = stage.shares
        self.assertLess(taken, 300)  # of 1,500: twenty in a row, and five a second
        self.assertGreater(refused, 0)

    def test_a_crowd_of_made_up_authors_is_refused_and_delays_nobody_at_nodes_that_know_nobody(
        self,
    ) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("crowded", 10)
        refused, slowest = stage.shares
        self.assertGreater(refused, 300)
        self.assertLess(slowest, 0.5)

    def test_runs_of_the_own_key_that_never_were_begin_one_new_run(self) -> None:
        stage = self.assert_nothing_comes_of("claimed-epochs", 9)
        self.assertEqual(stage.world.members[-1].renewals, 1)

    def test_claims_of_own_messages_hand_nothing_over(self) -> None:
        world = World(1, 3, members=[Boaster])
        boaster, author, newcomer = world.members
        author.start()
        for number in range(3):
            author.publish(number)
        boaster.start()
        world.link(boaster, author)
        world.run_until(5.0)
        self.assertEqual((author.node.outbox.accepted, author.node.outbox.confirmed), (0, 0))
        newcomer.start()
        world.link(newcomer, author)
        world.run_until(10.0)
        self.assertEqual(newcomer.delivered, {author.run: 3})
        world.run_until(10.0 + 2 * world.config.compare_interval)  # a DIGEST asks for the header
        self.assertEqual((author.node.outbox.accepted, author.node.outbox.confirmed), (3, 3))

    def test_many_of_one_host_that_surround_a_node_do_not_isolate_it(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("besieged", 37)
        besiegers, _, _, others, *_ = stage.notes[0].split()
        self.assertGreaterEqual((int(besiegers), int(others)), (1, 2))

    def test_members_that_claim_to_hold_everything_do_not_hide_the_one_that_does(self) -> None:
        only_at_length()
        self.assert_nothing_comes_of("hidden-holder", 14)

    def test_members_that_ask_for_everything_again_and_name_runs_that_there_are_not(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("asked-again", 8)
        askers = [member for member in stage.world.members if isinstance(member, Asker)]
        # Each has named many times what all its neighbours remember of all links.
        self.assertGreater(min(member.named for member in askers), 5 * stage.world.config.claims_in_all)
        for member in stage.world.honest():
            self.assertGreater(member.node.footprint()["claims_in_all"], 100)

    def test_members_that_are_not_there_keep_no_receipt_pending(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("named", 12)
        self.assertGreater(int(stage.notes[0].split()[0]), 5)

    def test_direct_messages_said_again_when_their_senders_could_be_forgotten(self) -> None:
        only_at_length()
        # Of fewer nodes each may be a neighbour of all others: then no adversary hears a direct message.
        stage = self.assert_nothing_comes_of("replayed-directs", 12)
        adversaries = [member for member in stage.world.members if isinstance(member, MintedSenders)]
        self.assertGreater(sum(len(member.heard) for member in adversaries), 10)
        # Where it is full a sixteenth is forgotten at a time.
        full = stage.world.config.direct_senders * 15 // 16
        tables = [member.node.footprint()["direct_senders"] for member in stage.world.honest()]
        self.assertGreaterEqual(max(tables), full)

    def test_messages_of_runs_that_have_ended_do_not_come_to_newcomers(self) -> None:
        for name in at_length(("ended-runs", "void-runs"), ("ended-runs",)):
            stage = self.assert_nothing_comes_of(name, 10)
            recorders = [member for member in stage.world.members if isinstance(member, Recorder)]
            self.assertGreater(sum(member.repeated for member in recorders), 100)

    def test_addresses_of_rubbish_loopback_and_the_local_link(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("rubbish", 8)
        self.assertGreater(sum(host.startswith("10.250.") for host, _ in stage.world.dials), 5)

    def test_addresses_of_one_victim(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("victim", 8)
        dials = sum(count for (host, _), count in stage.world.dials.items() if host == VICTIM)
        # Each node dials it when it first hears of it, and once more a minute later, whatever the port.
        self.assertLessEqual(dials, 2 * len(stage.world.members))
        self.assertGreater(dials, 2)

    def test_a_newcomer_that_adversaries_surround_has_honest_neighbours(self) -> None:
        only_at_length()
        stage = self.assert_nothing_comes_of("eclipse", 20)
        links, _ = stage.shares
        self.assertLess(links, 0.7)
