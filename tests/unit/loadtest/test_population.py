from __future__ import annotations

from loadtest.population import by_flights, population_of

BOARDS = [[{"flight_id": number} for number in range(start, start + 50)] for start in (0, 100)]
TOTALS = {"JFK": {"flights": 2}, "EWR": {"flights": 3}, "LGA": {"flights": 2}}


def test_the_busiest_airport_is_the_most_wanted() -> None:
    assert by_flights(TOTALS) == ["EWR", "JFK", "LGA"]


def test_flights_are_wanted_in_the_same_mixed_order_in_each_run() -> None:
    once, again = (population_of(TOTALS, {}, BOARDS).flight_ids for _ in range(2))
    assert once == again
    assert list(once) != sorted(once)
    assert sorted(once) == [*range(50), *range(100, 150)]


def test_two_writers_share_no_flight_and_all_writers_together_have_them_all() -> None:
    population = population_of(TOTALS, TOTALS, BOARDS)
    own = [set(population.flights_of_next_writer(7)) for _ in range(7)]
    assert set.union(*own) == set(population.flight_ids)
    assert sum(map(len, own)) == len(population.flight_ids)


def test_each_reader_has_a_seed_of_its_own() -> None:
    population = population_of(TOTALS, TOTALS, BOARDS)
    assert len({population.reader_seed() for _ in range(10)}) == 10
